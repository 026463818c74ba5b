"""What the provider sees of a mailer with limits, whatever number of workers sends through it."""

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from statistics import median

import pytest

from mail_outbox import outbox
from mail_outbox.models import Attempt, ConnectionShare, OutboxEntry
from tests.faults.smtp_process import SMTPProcess, smtp_process
from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.processes import Processes, commit, eventually, look, smtp, unfinished
from tests.support import a_message

pytestmark = [pytest.mark.journey, pytest.mark.slow]

WORKERS = 4
RATE = 20
SECONDS = 36
TAKES = 3
TICK, STALL = 0.005, 0.02
"""Seconds between two looks at the clock, and the delay from which on the machine is too busy to be measured on."""


@contextmanager
def machine_watched() -> Iterator[list[float]]:
    """Note how many seconds each time the machine kept somebody waiting who has next to nothing to do.

    What it does to him it does to a sender: a measurement with such a pause in it says nothing of the limits.
    """
    stalls: list[float] = []
    is_over = threading.Event()

    def watch() -> None:
        last = time.monotonic()
        while not is_over.wait(TICK):
            last, before = time.monotonic(), last
            if last - before - TICK > STALL:
                stalls.append(last - before - TICK)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield stalls
    finally:
        is_over.set()
        watcher.join()


def most_within(moments: Sequence[float], seconds: float) -> int:
    """Return how many of the moments lie within the fullest window of that length."""
    return max(bisect_left(moments, begin + seconds) - index for index, begin in enumerate(moments))


def fewest_within(moments: Sequence[float], seconds: float) -> int:
    """Return how many of the moments lie within the emptiest window of that length, none of it outside of them."""
    return min(
        bisect_left(moments, begin + seconds) - index - 1
        for index, begin in enumerate(moments)
        if begin + seconds <= moments[-1]
    )


def measured(moments: Sequence[float]) -> tuple[bool, int, int, int]:
    """Return whether the rate was kept and used, and the figures: the most in 1 s and in 30 s, the fewest in 30 s."""
    later = [moment for moment in moments if moment >= moments[0] + 1]
    second, most, fewest = most_within(later, 1), most_within(later, 30), fewest_within(later, 30)
    return second <= 21 and most <= 20.0 * 30 and fewest >= 19.5 * 30, second, most, fewest


@pytest.fixture
def sink_apart() -> Iterator[SMTPProcess]:
    """Run a server that accepts everything in a process of its own: what else the test does must not delay its clock."""
    with smtp_process() as server:
        yield server


def test_four_workers_keep_to_the_rate_and_make_full_use_of_it(processes: Processes, sink_apart: SMTPProcess):
    processes.mailers = {"default": smtp(sink_apart), "bulk": smtp(sink_apart)}
    processes.outbox["MAILER_OPTIONS"]["default"]["rate"] = f"{RATE}/s"
    processes.q_cluster = {"workers": WORKERS}
    processes.cluster()
    disturbed: list[float] = []
    takes = 0
    while takes < TAKES and (disturbed or not takes):
        with machine_watched() as disturbed:
            outbox.enqueue_many(a_message(str(number)) for number in range(RATE * SECONDS))
            look(WORKERS)
            eventually(lambda: not unfinished(), within=2 * SECONDS, every=0.5)
        takes += 1

    moments = sink_apart.moments()
    assert len(moments) == takes * RATE * SECONDS
    found = [measured(moments[take * RATE * SECONDS : (take + 1) * RATE * SECONDS]) for take in range(takes)]
    if disturbed and not any(is_kept for is_kept, *_ in found):
        pytest.skip(f"The machine stood still for up to {max(disturbed):.3f} s in each of {takes} takes: {found}")
    assert found[-1][0] or disturbed, found
    assert Attempt.objects.values("worker").distinct().count() == WORKERS


def test_slots_further_apart_than_a_slice_lasts_are_used_each_and_keep_no_other_mail_waiting(
    processes: Processes, sink: SMTPFaultServer
):
    processes.outbox["MAILER_OPTIONS"]["bulk"]["rate"] = "24/m"
    processes.outbox["SLICE"] = timedelta(seconds=1)
    processes.q_cluster = {"workers": 2}
    processes.cluster()
    outbox.enqueue_many((a_message(f"slow {number}") for number in range(6)), using="bulk")
    eventually(lambda: sink.journal, within=10)

    delays = []
    while unfinished():
        began = time.time()
        entry = commit("one")
        eventually(lambda entry=entry: moment_of(sink, entry.message_id), within=10, every=0.01)
        delays.append(moment_of(sink, entry.message_id) - began)

    slow = [accepted.at for accepted in sink.journal if b"Subject: slow" in accepted.data]
    assert len(slow) == 6
    assert slow[-1] - slow[0] < 5 * 2.5125 + 1
    assert min(later - earlier for earlier, later in pairwise(slow)) > 2.4
    assert median(delays) < 0.5


def moment_of(sink: SMTPFaultServer, message_id: str) -> float:
    """Return when the sink accepted the message; 0.0 where it has not."""
    return next((accepted.at for accepted in sink.journal if accepted.message_id == message_id), 0.0)


def test_workers_share_the_connections_of_a_mailer_and_leave_them_to_others_when_they_die(
    processes: Processes, sink: SMTPFaultServer
):
    sink.latency = 0.05
    processes.outbox["MAILER_OPTIONS"]["default"]["max_connections"] = 2
    outbox.enqueue_many(a_message(str(number)) for number in range(600))
    drains = {
        drain.pid: drain
        for drain in (
            processes.start(["-m", "django", "outbox", "drain", "--forever"], name=f"drain-{number}")
            for number in range(WORKERS)
        )
    }
    eventually(lambda: len(sink.journal) > 100, within=60)

    victim = eventually(lambda: ConnectionShare.objects.first(), within=30, every=0.001)
    drains[int(victim.worker.split(":")[1])].kill()

    eventually(lambda: not unfinished(), within=90)
    assert sink.max_open_connections == 2
    assert {accepted.message_id for accepted in sink.journal} == set(
        OutboxEntry.objects.values_list("message_id", flat=True)
    )
    assert Attempt.objects.values("worker").distinct().count() > 1
