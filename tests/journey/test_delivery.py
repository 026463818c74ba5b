"""From the commit to the provider, through a real cluster."""

import time
from datetime import timedelta
from statistics import median
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone
from django_q.models import OrmQ, Schedule

from mail_outbox import outbox, tasks
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, OutboxEntry
from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.processes import Processes, commit, eventually, unfinished
from tests.support import a_message

pytestmark = [pytest.mark.journey, pytest.mark.slow]


def test_a_committed_mail_is_delivered_by_a_cluster_and_the_entry_says_so(processes: Processes, sink: SMTPFaultServer):
    processes.cluster()

    with transaction.atomic():
        entry = outbox.enqueue(a_message("Your order"))

    eventually(lambda: not unfinished())
    [accepted] = sink.journal
    assert accepted.recipients == ("jane@example.com",)
    assert accepted.header("Subject") == "Your order"
    assert accepted.message_id == entry.message_id
    entry.refresh_from_db()
    assert (entry.state, entry.attempts, entry.outcome_kind) == (State.SENT, 1, Kind.SENT)
    assert [recipient.status for recipient in entry.recipients.all()] == ["accepted"]
    [attempt] = Attempt.objects.all()
    assert (attempt.entry, attempt.kind, attempt.using) == (entry, Kind.SENT, "default")


def test_an_idle_cluster_delivers_within_a_second_of_the_commit(processes: Processes, sink: SMTPFaultServer):
    processes.cluster()

    delays = [commit_and_measure(sink, f"order-{number}") for number in range(20)]

    # Until the mailer has accepted it all, which is later than the first byte.
    assert median(delays) < 1, delays


def test_the_redis_broker_delivers_too(processes: Processes, sink: SMTPFaultServer, redis_url: str):
    # A queue of its own: the runs of other Pythons may share the Redis.
    name = f"mail_outbox_tests_{uuid4().hex}"
    processes.q_cluster = {"orm": None, "redis": redis_url, "name": name}
    Schedule.objects.filter(func=tasks.SWEEP).update(next_run=timezone.now() + timedelta(hours=1))
    processes.cluster()

    processes.writer("writer", 20).result()

    eventually(lambda: not unfinished())
    assert Schedule.objects.get(func=tasks.SWEEP).next_run > timezone.now(), "the sweep may have delivered it"
    assert len(sink.journal) == 18
    assert set(OutboxEntry.objects.values_list("state", flat=True)) == {State.SENT}


def commit_and_measure(sink: SMTPFaultServer, key: str) -> float:
    """Enqueue a mail while nothing is going on, and return the seconds from its commit to its acceptance."""
    entry = commit(key)
    committed_at = time.time()
    eventually(lambda: not unfinished(), every=0.02)
    # The worker goes back to sleep: no task waits, and nobody is draining.
    eventually(lambda: not OrmQ.objects.exists(), every=0.02)
    [accepted] = [each for each in sink.journal if each.message_id == entry.message_id]
    return accepted.at - committed_at
