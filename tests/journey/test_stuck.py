"""A worker whose senders are stuck for good is replaced, and nothing else waits for them."""

from datetime import timedelta
from pathlib import Path

import pytest

from mail_outbox import outbox
from mail_outbox.core.outcomes import WORKER_LOST, Kind
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry, Worker
from tests.journey.processes import Processes, eventually, look
from tests.support import a_message, age

pytestmark = [pytest.mark.journey, pytest.mark.slow]

SENDERS = 2


def test_a_worker_all_of_whose_senders_are_stuck_is_replaced_and_the_mail_goes_on(processes: Processes, tmp_path: Path):
    proof = tmp_path / "sent"
    processes.mailers = {
        "default": {"BACKEND": "tests.journey.mailers.HangingBackend", "OPTIONS": {"path": str(proof)}}
    }
    processes.outbox |= {
        "SLICE": timedelta(seconds=1),
        "MAILER_OPTIONS": {"default": {"concurrency": SENDERS, "deadline": timedelta(seconds=1)}},
    }
    processes.q_cluster = {"workers": 1}
    cluster = processes.cluster()
    stuck = outbox.enqueue_many((a_message(f"hang {number}") for number in range(SENDERS)), on_ambiguous="hold")
    eventually(lambda: being_sent() == SENDERS, within=30, meanwhile=look)
    worn_out = Worker.objects.get().pid

    others = outbox.enqueue_many(a_message(f"mail {number}") for number in range(20))
    eventually(lambda: sent() == len(others), within=60, meanwhile=look)
    eventually(lambda: worn_out not in cluster.members, within=60, meanwhile=look)
    for entry in stuck:
        age(entry, lease_expires_at=timedelta(hours=-1))
    eventually(lambda: held() == len(stuck), within=60, meanwhile=look)
    outbox.enqueue(a_message("after all"))
    eventually(lambda: sent() == len(others) + 1, within=60, meanwhile=look)

    assert "worker worn out" in cluster.errors
    assert cluster.errors.count("sender stuck") == SENDERS
    assert sorted(proof.read_text().splitlines()) == sorted([*(f"mail {number}" for number in range(20)), "after all"])
    for entry in stuck:
        assert list(entry.attempt_set.values_list("kind", "code")) == [(Kind.AMBIGUOUS, WORKER_LOST)]


def being_sent() -> int:
    return OutboxEntry.objects.filter(state=State.SENDING).count()


def sent() -> int:
    return OutboxEntry.objects.filter(state=State.SENT).count()


def held() -> int:
    return OutboxEntry.objects.filter(state=State.HELD).count()
