"""Messages one after the other, in the caller's own thread."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta
from uuid import UUID, uuid4

from django.db import Error as DjangoDatabaseError
from django.db import connections

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.conf import Conf
from mail_outbox.core.rates import FARTHEST
from mail_outbox.delivery import Line
from mail_outbox.drain.fitness import Fitness
from mail_outbox.drain.reading import read_jobs
from mail_outbox.drain.result import DrainResult, Tally
from mail_outbox.drain.settler import Settler, announce, luck
from mail_outbox.drain.work import Job, perform, policy_of
from mail_outbox.drain.workers import new_name
from mail_outbox.models import OutboxEntry
from mail_outbox.transitions import DATABASE_AWAY, claim, expire, promote, rescue

LONGEST_OUTAGE = 30.0
"""Seconds that the caller is kept waiting for a database that is away; the entry is left to rescue then."""
WAIT_BETWEEN = 0.1


def is_mailer_paused(alias: str, *, database: str) -> bool:
    """Tell whether nothing may be sent through the mailer now: paused by hand, or resting after trouble."""
    fitness = Fitness(database)
    fitness.read()
    return fitness.is_resting(alias, settings.get_conf())


@contextmanager
def admission(alias: str, *, recipients: int, database: str) -> Iterator[bool]:
    """Wait for what the limits of the mailer ask for, a connection and a slot, and hold the connection meanwhile.

    Yields False where they are not to be had within 10 s, or within the mailer's deadline where that is shorter.
    """
    conf = settings.get_conf()
    options, worker = conf.options_of(alias), new_name()
    give_up_at = time.monotonic() + min(FARTHEST, conf.deadline_of(alias)).total_seconds()
    length = conf.lease_length + FARTHEST

    def has_connection() -> bool:
        limit = options.max_connections
        return limit is None or bool(
            transitions.take_share(alias, worker=worker, wanted=1, limit=limit, length=length, database=database)
        )

    nobody = threading.Event()
    try:
        while not (is_admitted := has_connection()) and time.monotonic() < give_up_at:
            nobody.wait(WAIT_BETWEEN)
        if is_admitted and options.parsed_rate is not None:
            within = timedelta(seconds=max(0.0, give_up_at - time.monotonic()))
            wait = transitions.reserve_slot(
                alias, rate=options.parsed_rate, recipients=recipients, within=within, database=database
            )
            nobody.wait(0.0 if wait is None else wait.total_seconds())
            is_admitted = wait is not None
        yield is_admitted
    finally:
        if options.max_connections is not None:
            # What cannot be given back now runs out by itself.
            with suppress(*DATABASE_AWAY):
                transitions.give_share_back(alias, worker=worker, database=database)


def deliver_claim(claim_id: UUID, *, alias: str, lease_until: float, database: str) -> None:
    """Make one attempt at each claimed entry of the mailer and settle it; what cannot be written is left to rescue.

    The lease must not seem longer than the database thinks it is: its end, on the monotonic clock, counts from before the
    claim. Raises what is in the way of reading the claim, which goes back.
    """
    conf = settings.get_conf()
    jobs = _read(claim_id, alias, conf, lease_until, database)
    settler = Settler(database, Fitness(database))
    with closing(Line(alias, conf.options_of(alias))) as line:
        for job in jobs:
            settler.add(perform(job, line))
    _write(settler, conf, database)


def deliver_due(*, using: str | None = None, database: str) -> DrainResult:
    """Deliver all that is due, or what of it goes through one mailer, and return the counts.

    What the engine does with threads, this does without: one message at a time, the mailers in turn, in the same order
    every time. For tests, whose transaction no other thread could look into.
    """
    conf, tally, fitness = settings.get_conf(), Tally(), Fitness(database)
    settler = Settler(database, fitness)
    aliases = [alias for alias in settings.real_mailers() if using in (None, alias)]
    with ExitStack() as lines:
        senders = {alias: lines.enter_context(closing(Line(alias, conf.options_of(alias)))) for alias in aliases}
        while _keep_house(tally, conf, database) + sum(
            [_deliver_next(alias, line, settler, fitness, tally, database) for alias, line in senders.items()]
        ):
            pass
    queued = OutboxEntry.objects.using(database)
    return tally.result(is_work_left=any(queued.queued(alias).exists() for alias in aliases))


def _keep_house(tally: Tally, conf: Conf, database: str) -> int:
    promoted, expired = promote(database=database), expire(database=database)
    rescued = rescue(policy_of=lambda entry: policy_of(entry, conf), luck=luck, database=database)
    tally.update(promoted=promoted, expired=expired, rescued=len(rescued))
    announce(rescued)
    return promoted + expired + len(rescued)


def _deliver_next(alias: str, line: Line, settler: Settler, fitness: Fitness, tally: Tally, database: str) -> bool:
    """Deliver the mailer's next entry, and tell whether there was one that might go."""
    conf, claim_id = settings.get_conf(), uuid4()
    fitness.read()
    if not fitness.room(alias, conf.options_of(alias).concurrency, conf):
        return False
    if not OutboxEntry.objects.using(database).queued(alias).exists():
        return False
    if fitness.needs_probe(alias) and not fitness.take_probe(alias, conf):
        return False
    lease_until = time.monotonic() + conf.lease_length.total_seconds()
    claim(alias, 1, claim_id=claim_id, worker="inline", lease=conf.lease_length, database=database)
    for job in _read(claim_id, alias, conf, lease_until, database):
        settler.add(perform(job, line))
    settler.settle(conf, tally)
    return True


def _read(claim_id: UUID, alias: str, conf: Conf, lease_until: float, database: str) -> list[Job]:
    try:
        return read_jobs(claim_id, deadline=conf.deadline_of(alias), lease_until=lease_until, database=database)
    except BaseException:
        # Nobody has begun it, and the rescue would take it for tried.
        with suppress(DjangoDatabaseError):
            transitions.give_back(claim_id, database=database)
        raise


def _write(settler: Settler, conf: Conf, database: str) -> None:
    """Settle, as long as it takes within reason: the mail is out, and the caller waits for the answer."""
    give_up_at = time.monotonic() + LONGEST_OUTAGE
    between_tries = threading.Event()
    while True:
        try:
            return settler.settle(conf, Tally())
        except DATABASE_AWAY:
            if time.monotonic() > give_up_at or connections[database].in_atomic_block:
                raise
        between_tries.wait(WAIT_BETWEEN)
        with suppress(*DATABASE_AWAY):
            connections[database].close_if_unusable_or_obsolete()
