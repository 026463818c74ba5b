"""One message at once, in the caller's own thread."""

import threading
import time
from contextlib import closing
from uuid import UUID

from django.db import OperationalError, connections

from mail_outbox import conf as settings
from mail_outbox.delivery import Line
from mail_outbox.drain.fitness import Fitness
from mail_outbox.drain.result import Tally
from mail_outbox.drain.settler import Settler
from mail_outbox.drain.work import perform, read_jobs

MOST_TRIES = 20
WAIT_BETWEEN = 0.05


def is_mailer_paused(alias: str, *, database: str) -> bool:
    """Tell whether nothing may be sent through the mailer now: paused by hand, or resting after trouble."""
    fitness = Fitness(database)
    fitness.read()
    return fitness.room(alias, 1, settings.get_conf()) == 0 or fitness.needs_probe(alias)


def deliver_claim(claim_id: UUID, *, alias: str, database: str) -> None:
    """Make one attempt at each claimed entry of the mailer and settle it; what cannot be written is left to rescue."""
    conf = settings.get_conf()
    lease_until = time.monotonic() + conf.lease_length.total_seconds()
    jobs = read_jobs(claim_id, deadline=conf.deadline_of(alias), lease_until=lease_until, database=database)
    settler = Settler(database, Fitness(database))
    with closing(Line(alias, conf.options_of(alias))) as line:
        for job in jobs:
            settler.add(perform(job, line))
    pause = threading.Event()
    for tries_left in reversed(range(MOST_TRIES)):
        try:
            return settler.settle(conf, Tally())
        except OperationalError:
            if not tries_left or connections[database].in_atomic_block:
                raise
            connections[database].close_if_unusable_or_obsolete()
            pause.wait(WAIT_BETWEEN)
    return None
