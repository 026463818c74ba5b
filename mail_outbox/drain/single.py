"""One message at once, in the caller's own thread."""

import threading
import time
from contextlib import closing, suppress
from uuid import UUID

from django.db import connections

from mail_outbox import conf as settings
from mail_outbox.conf import Conf
from mail_outbox.delivery import Line
from mail_outbox.drain.fitness import Fitness
from mail_outbox.drain.result import Tally
from mail_outbox.drain.settler import Settler
from mail_outbox.drain.work import perform, read_jobs
from mail_outbox.transitions import DATABASE_AWAY

LONGEST_OUTAGE = 30.0
"""Seconds that the caller is kept waiting for a database that is away; the entry is left to rescue then."""
WAIT_BETWEEN = 0.1


def is_mailer_paused(alias: str, *, database: str) -> bool:
    """Tell whether nothing may be sent through the mailer now: paused by hand, or resting after trouble."""
    fitness = Fitness(database)
    fitness.read()
    return fitness.is_resting(alias, settings.get_conf())


def deliver_claim(claim_id: UUID, *, alias: str, database: str) -> None:
    """Make one attempt at each claimed entry of the mailer and settle it; what cannot be written is left to rescue."""
    conf = settings.get_conf()
    lease_until = time.monotonic() + conf.lease_length.total_seconds()
    jobs = read_jobs(claim_id, deadline=conf.deadline_of(alias), lease_until=lease_until, database=database)
    settler = Settler(database, Fitness(database))
    with closing(Line(alias, conf.options_of(alias))) as line:
        for job in jobs:
            settler.add(perform(job, line))
    _write(settler, conf, database)


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
