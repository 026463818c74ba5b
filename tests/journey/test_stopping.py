"""A worker that is asked to stop finishes what it is sending, writes it down and leaves."""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
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
ROUNDS, LOAD = 3, 400
FLOOD = 1.0
"""Seconds for which a signal follows the other as fast as one process can send them."""
STOPS_WITHIN = 20
"""Seconds: the slice, the longest deadline, and what django-q2 takes."""


@pytest.fixture
def cluster(processes: Processes, sink: SMTPFaultServer) -> Child:
    """Start a cluster that is in the middle of 200 mails, half a second each."""
    sink.latency = 0.5
    processes.outbox["SLICE"] = SLICE
    cluster = processes.cluster()
    outbox.enqueue_many(a_message(f"mail {number}") for number in range(COUNT))
    eventually(lambda: len(sink.journal) >= 10 and names_of_senders().exists(), every=0.01)
    return cluster


def ask_the_main_process(cluster: Child) -> None:
    """Ask as systemd does under KillMode=mixed, and docker stop: a signal to the main process alone."""
    cluster.terminate()


def interrupt_every_process(cluster: Child) -> None:
    """Ask as a terminal does, and systemd with KillSignal=SIGINT whatever the KillMode: django-q2's children ignore it."""
    cluster.signal_all(signal.SIGINT)


@pytest.mark.parametrize("ask", [ask_the_main_process, interrupt_every_process])
def test_a_cluster_that_is_asked_to_stop_leaves_nothing_half_sent(
    cluster: Child, sink: SMTPFaultServer, ask: Callable[[Child], None]
):
    asked_at = time.monotonic()
    ask(cluster)
    assert cluster.wait(within=STOPS_WITHIN) == 0, cluster.errors
    took = time.monotonic() - asked_at

    # The slice, the longest send that was under way, and what django-q2 takes when it is idle.
    assert took < SLICE.total_seconds() + sink.latency + 4
    assert not cluster.members
    assert_nothing_is_half_sent(sink)
    assert unfinished() > 0, "it was over before it was asked"


@pytest.mark.parametrize("ask", [ask_the_main_process, interrupt_every_process])
@pytest.mark.parametrize("moment", ["starting.", "ready for work", "guarding cluster"])
def test_a_cluster_that_is_asked_to_stop_while_it_starts_goes_in_time(
    processes: Processes, moment: str, ask: Callable[[Child], None]
):
    cluster = processes.start(["-m", "django", "qcluster"], name="cluster")
    eventually(lambda: moment in cluster.errors or not cluster.is_running, every=0.005)
    asked_at = time.monotonic()
    ask(cluster)
    assert cluster.wait(within=STOPS_WITHIN) == 0, cluster.errors
    took = time.monotonic() - asked_at

    assert took < STOPS_WITHIN
    assert not cluster.members


def test_a_worker_that_is_told_to_go_leaves_nothing_half_sent(cluster: Child, sink: SMTPFaultServer):
    name = eventually(lambda: names_of_senders().first(), every=0.01)
    worker = Worker.objects.get(name=name)
    os.kill(worker.pid, signal.SIGTERM)

    eventually(lambda: worker.pid not in cluster.members, within=20)
    assert not OutboxEntry.objects.filter(state=State.SENDING, worker=worker.name).exists()
    assert unfinished() > 0, "it was over before it was told"
    sink.latency = 0.0
    eventually(lambda: not unfinished(), meanwhile=look)
    assert_nothing_is_half_sent(sink)


def test_a_worker_that_is_told_to_go_over_and_over_goes_all_the_same(processes: Processes, sink: SMTPFaultServer):
    sink.latency = 2.0
    processes.outbox["SLICE"] = SLICE
    cluster = processes.cluster()
    outbox.enqueue_many(a_message(f"mail {number}") for number in range(LOAD))
    name = eventually(lambda: names_of_senders().first(), within=20, every=0.01, meanwhile=look)
    worker = Worker.objects.get(name=name)

    told, end = 0, time.monotonic() + FLOOD
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < end:
            os.kill(worker.pid, signal.SIGTERM)
            told += 1

    assert told > 1000
    eventually(lambda: worker.pid not in cluster.members, within=STOPS_WITHIN)
    of_its_own = OutboxEntry.objects.filter(worker=worker.name).exclude(state=State.QUEUED)
    assert set(of_its_own.values_list("state", "attempts")) == {(State.SENT, 1)}


def test_a_supervisor_that_stops_every_process_leaves_nothing_half_sent(cluster: Child, sink: SMTPFaultServer):
    terminate_every_process(cluster)

    assert_nothing_is_half_sent(sink)
    assert unfinished() > 0, "it was over before it was told"


def stop_the_main_process(cluster: Child) -> None:
    """Stop it as systemd does under KillMode=mixed: SIGTERM to the main process, SIGKILL to what is left when it has gone."""
    cluster.terminate()
    assert cluster.wait(within=STOPS_WITHIN) == 0, cluster.errors
    assert not cluster.members
    cluster.signal_all(signal.SIGKILL)


def stop_every_process(cluster: Child) -> None:
    """Stop it as systemd does under KillMode=control-group: SIGTERM to all, SIGKILL to what is left when the time is up."""
    terminate_every_process(cluster)
    cluster.kill()


def terminate_every_process(cluster: Child) -> None:
    """Send SIGTERM to all, and wait until nothing is left that could send.

    The main process may be: it wants to wake its sentinel, which died of the same signal, and waits for that for ever
    (`Event.set` of multiprocessing counts on every waiter to answer). Nothing but SIGKILL ends it.
    """
    cluster.signal_all(signal.SIGTERM)
    eventually(lambda: set(cluster.members) <= {cluster.pid}, within=STOPS_WITHIN)


@pytest.mark.parametrize("stop", [stop_the_main_process, stop_every_process])
def test_a_service_that_is_stopped_and_started_under_load_leaves_nothing_ambiguous(
    processes: Processes, sink: SMTPFaultServer, stop: Callable[[Child], None]
):
    sink.latency = 0.5
    processes.outbox["SLICE"] = SLICE
    total = 0
    for _ in range(ROUNDS):
        outbox.enqueue_many(a_message(f"mail {number}") for number in range(LOAD))
        total += LOAD
        done = len(sink.journal)
        cluster = processes.cluster()
        eventually(
            lambda done=done: len(sink.journal) >= done + 10 and names_of_senders().exists(),
            every=0.01,
            meanwhile=look,
        )
        stop(cluster)
        assert not OutboxEntry.objects.filter(state=State.SENDING).exists()
        assert unfinished() > 0, "it was over before it was stopped"

    sink.latency = 0.0
    processes.cluster()
    eventually(lambda: not unfinished(), meanwhile=look)

    assert Counter(Attempt.objects.values_list("kind", flat=True)) == {Kind.SENT: total}
    assert len(sink.journal) == len({accepted.message_id for accepted in sink.journal}) == total


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
