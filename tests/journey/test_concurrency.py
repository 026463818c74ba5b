"""Many workers on one outbox: nobody claims what another has."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection

from mail_outbox import outbox
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, OutboxEntry, Worker
from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.processes import Processes, appender, eventually, look, unfinished
from tests.support import a_message

pytestmark = [pytest.mark.journey, pytest.mark.slow]


def test_two_clusters_never_claim_the_same_entry(processes: Processes, tmp_path: Path):
    workers, count = (1, 2_000) if connection.vendor == "sqlite" else (4, 10_000)
    proof = tmp_path / "proof"
    processes.mailers = {"default": appender(proof)}
    processes.outbox |= {"LEASE": None, "MAILER_OPTIONS": {}, "SLICE": timedelta(seconds=1)}
    # Hardly anybody fetches tasks for later, so that every worker of both clusters gets one.
    processes.q_cluster = {"workers": workers, "queue_limit": 1}
    clusters = [processes.cluster(), processes.cluster()]

    outbox.enqueue_many(a_message(f"mail {number}") for number in range(count))
    look(6 * workers)

    eventually(lambda: not unfinished(), meanwhile=look)
    assert Counter(proof.read_text().splitlines()) == {f"mail {number}": 1 for number in range(count)}
    assert Counter(OutboxEntry.objects.values_list("state", "attempts")) == {(State.SENT, 1): count}
    assert Counter(Attempt.objects.values_list("kind", flat=True)) == {Kind.SENT: count}
    assert Attempt.objects.values("entry").distinct().count() == count
    assert all(workers_of(cluster.members) for cluster in clusters), "one cluster did it all"


def test_a_bulk_in_one_commit_is_drained_by_all_workers(processes: Processes, sink: SMTPFaultServer):
    sink.latency = 0.3
    processes.q_cluster = {"workers": 3}
    processes.cluster()

    # Enough for a worker that comes late.
    outbox.enqueue_many(a_message(f"mail {number}") for number in range(600))

    eventually(lambda: not unfinished())
    shares = Counter(Attempt.objects.values_list("worker", flat=True))
    assert len(shares) == 3, shares
    assert min(shares.values()) > 20, shares


def workers_of(pids: list[int]) -> set[str]:
    """Name the workers among these processes that have sent something."""
    senders = set(Attempt.objects.values_list("worker", flat=True))
    return senders & set(Worker.objects.filter(pid__in=pids).values_list("name", flat=True))
