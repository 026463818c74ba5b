"""A worker that is asked to stop finishes what it is sending, writes it down and leaves."""

import os
import signal
import time
from collections import Counter
from datetime import timedelta

import pytest
from django.db.models import QuerySet

from mail_outbox import outbox
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, OutboxEntry, Worker
from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.processes import Child, Processes, eventually, look, unfinished
from tests.support import a_message

pytestmark = [pytest.mark.journey, pytest.mark.slow]

COUNT = 200
SLICE = timedelta(seconds=2)


@pytest.fixture
def cluster(processes: Processes, sink: SMTPFaultServer) -> Child:
    """Start a cluster that is in the middle of 200 mails, half a second each."""
    sink.latency = 0.5
    processes.outbox["SLICE"] = SLICE
    cluster = processes.cluster()
    outbox.enqueue_many(a_message(f"mail {number}") for number in range(COUNT))
    eventually(lambda: len(sink.journal) >= 10 and names_of_senders().exists(), within=20, every=0.01)
    return cluster


def test_a_cluster_that_is_asked_to_stop_leaves_nothing_half_sent(cluster: Child, sink: SMTPFaultServer):
    asked_at = time.monotonic()
    cluster.terminate()

    assert cluster.wait(within=20) == 0, cluster.errors
    # The slice, the longest send that was under way, and what django-q2 takes when it is idle.
    assert time.monotonic() - asked_at < SLICE.total_seconds() + sink.latency + 4
    assert not cluster.members
    assert_nothing_is_half_sent(sink)
    assert unfinished() > 0, "it was over before it was asked"


def test_a_worker_that_is_told_to_go_leaves_nothing_half_sent(cluster: Child, sink: SMTPFaultServer):
    name = eventually(lambda: names_of_senders().first(), within=20, every=0.01)
    worker = Worker.objects.get(name=name)
    os.kill(worker.pid, signal.SIGTERM)

    eventually(lambda: worker.pid not in cluster.members, within=20)
    assert not OutboxEntry.objects.filter(state=State.SENDING, worker=worker.name).exists()
    assert unfinished() > 0, "it was over before it was told"
    sink.latency = 0.0
    eventually(lambda: not unfinished(), within=30, meanwhile=look)
    assert_nothing_is_half_sent(sink)


def test_a_supervisor_that_stops_every_process_leaves_nothing_half_sent(cluster: Child, sink: SMTPFaultServer):
    workers = set(Worker.objects.values_list("pid", flat=True))
    cluster.signal_all(signal.SIGTERM)

    # The main process of django-q2 does not survive the loss of its sentinel in good health: its workers count.
    eventually(lambda: not workers & set(cluster.members), within=20)
    assert_nothing_is_half_sent(sink)
    assert unfinished() > 0, "it was over before it was told"


def names_of_senders() -> QuerySet[OutboxEntry, str]:
    """Name the workers that are sending something right now, once for each mail."""
    return OutboxEntry.objects.filter(state=State.SENDING).order_by("pk").values_list("worker", flat=True)


def assert_nothing_is_half_sent(sink: SMTPFaultServer) -> None:
    """Check that every entry is either untouched or sent, and that the sink has each of the latter once."""
    states = Counter(OutboxEntry.objects.values_list("state", "attempts"))
    sent = states[State.SENT, 1]
    assert states == Counter({(State.SENT, 1): sent, (State.QUEUED, 0): COUNT - sent})
    assert Counter(Attempt.objects.values_list("kind", flat=True)) == {Kind.SENT: sent}
    assert len(sink.journal) == len({accepted.message_id for accepted in sink.journal}) == sent
