"""Nothing waits for another's trouble."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from statistics import median

import pytest

from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry
from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.processes import Processes, commit, eventually, smtp

pytestmark = [pytest.mark.journey, pytest.mark.slow]

WORKERS = 2
CONCURRENCY = 8


@pytest.fixture
def slow_sink() -> Iterator[SMTPFaultServer]:
    """Run a server that thinks for half a minute about every message."""
    with SMTPFaultServer(latency=30) as server:
        yield server


def test_a_mailer_that_hangs_does_not_slow_the_mail_of_another(
    processes: Processes, sink: SMTPFaultServer, slow_sink: SMTPFaultServer
):
    processes.mailers = {"default": smtp(sink), "bulk": smtp(slow_sink)}
    processes.outbox |= {
        "LEASE": None,
        "SLICE": timedelta(seconds=4),  # all senders have begun by then; its end lies in the time that is measured
        "MAILER_OPTIONS": {"bulk": {"deadline": timedelta(seconds=60), "concurrency": CONCURRENCY}},
    }
    processes.q_cluster = {"workers": WORKERS}
    processes.cluster()

    alone = delays_of(sink, name="alone")
    for number in range(200):
        commit(f"slow-{number}", using="bulk")
    eventually(all_workers_hang, within=20)
    beside_the_slow = delays_of(sink, name="beside")

    assert median(beside_the_slow) < 2 * median(alone), (alone, beside_the_slow)
    assert all_workers_hang()
    assert not slow_sink.journal


def delays_of(sink: SMTPFaultServer, *, name: str) -> list[float]:
    """Enqueue 30 mails at ten a second, and return the seconds from commit to acceptance of each."""
    tick = threading.Event()
    committed_at: dict[str, float] = {}
    for number in range(30):
        entry = commit(f"{name}-{number}")
        committed_at[entry.message_id] = time.time()
        tick.wait(0.1)
    eventually(lambda: committed_at.keys() <= {accepted.message_id for accepted in sink.journal}, within=30)
    return [
        accepted.at - committed_at[accepted.message_id]
        for accepted in sink.journal
        if accepted.message_id in committed_at
    ]


def all_workers_hang() -> bool:
    """Tell whether every sender of every worker is busy with the slow mailer."""
    sending = OutboxEntry.objects.filter(state=State.SENDING, using="bulk")
    return sending.count() == WORKERS * CONCURRENCY and sending.values("worker").distinct().count() == WORKERS
