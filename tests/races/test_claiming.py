"""Several workers on the same entries: each entry is claimed by one of them."""

from collections import Counter
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import OperationalError, connection

from mail_outbox import outbox, transitions
from mail_outbox.conf import get_conf
from mail_outbox.core.outcomes import WORKER_LOST, Kind
from mail_outbox.core.states import State
from mail_outbox.drain.work import policy_of
from mail_outbox.models import Attempt, OutboxEntry
from tests.fakes import Provider
from tests.races.parallel import at_once, drain
from tests.support import a_message

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

COUNT = 200


def claim(room: int, *, oldest: int = 0, lease: timedelta) -> list[int]:
    """Claim as a worker does, and return what was taken; a deadlock, which InnoDB may see here, takes nothing."""
    try:
        places = range(room - oldest, room)
        return transitions.claim(
            "default", room, claim_id=uuid4(), oldest=places, worker="worker", lease=lease, database="default"
        )
    except OperationalError:
        assert connection.vendor == "mysql"
        return []


def test_four_workers_send_every_entry_once(provider: Provider):
    outbox.enqueue_many(a_message(f"mail {number}") for number in range(COUNT))

    results = at_once(*[drain] * 4)

    assert Counter(provider.subjects) == {f"mail {number}": 1 for number in range(COUNT)}
    assert sum(result.sent for result in results) == COUNT
    assert Counter(OutboxEntry.objects.values_list("state", "attempts")) == {(State.SENT, 1): COUNT}
    assert Counter(Attempt.objects.values_list("kind", flat=True)) == {Kind.SENT: COUNT}


def test_claims_made_at_the_same_moment_share_nothing(provider: Provider):
    outbox.enqueue_many(a_message() for _ in range(COUNT))

    def claim_some() -> list[int]:
        return [key for _ in range(COUNT // 10) for key in claim(10, oldest=1, lease=timedelta(minutes=1))]

    taken = [key for keys in at_once(*[claim_some] * 4) for key in keys]

    assert len(taken) == len(set(taken))
    assert set(taken) == set(OutboxEntry.objects.filter(state=State.SENDING, attempts=1).values_list("pk", flat=True))


def test_what_a_lost_worker_left_is_rescued_once(provider: Provider):
    outbox.enqueue_many(a_message() for _ in range(COUNT))
    claim(COUNT, lease=timedelta(seconds=-1))

    def rescue() -> int:
        policy = get_conf()
        settled = 0
        for _ in range(COUNT // 10):
            settled += len(
                transitions.rescue(
                    policy_of=lambda entry: policy_of(entry, policy), luck=lambda: 1.0, database="default"
                )
            )
        return settled

    rescued = at_once(*[rescue] * 4)

    assert sum(rescued) == COUNT
    assert Counter(Attempt.objects.values_list("kind", "code")) == {(Kind.AMBIGUOUS, WORKER_LOST): COUNT}
    assert Attempt.objects.values("entry").distinct().count() == COUNT
    assert Counter(OutboxEntry.objects.values_list("state", "attempts")) == {(State.SCHEDULED, 1): COUNT}


def test_what_is_due_is_promoted_once(provider: Provider):
    outbox.enqueue_many((a_message() for _ in range(COUNT)), send_at=timedelta(minutes=1))
    OutboxEntry.objects.update(due_at=OutboxEntry.objects.values("created_at")[:1])

    promoted = at_once(*[lambda: transitions.promote(database="default")] * 4)

    assert sum(promoted) == COUNT
    assert set(OutboxEntry.objects.values_list("state", flat=True)) == {State.QUEUED}
