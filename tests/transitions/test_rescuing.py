"""rescue: what a lost worker left behind."""

from datetime import timedelta
from uuid import uuid4

import pytest

from mail_outbox import outbox, transitions
from mail_outbox.conf import get_conf
from mail_outbox.core.states import State
from mail_outbox.drain.work import policy_of
from mail_outbox.models import Attempt, OutboxEntry
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

LEASE = timedelta(minutes=4)


def lose_worker(entry: OutboxEntry) -> None:
    OutboxEntry.objects.filter(pk=entry.pk, state=State.SCHEDULED).update(state=State.QUEUED)
    transitions.claim("default", 1, claim_id=uuid4(), worker="lost", lease=LEASE, database="default")
    age(entry, lease_expires_at=-2 * LEASE)


def rescue() -> int:
    conf = get_conf()
    return len(transitions.rescue(policy_of=lambda entry: policy_of(entry, conf), luck=lambda: 1.0, database="default"))


def test_a_live_lease_is_left_alone():
    outbox.enqueue(a_message())
    transitions.claim("default", 1, claim_id=uuid4(), worker="w", lease=LEASE, database="default")

    assert rescue() == 0


def test_an_expired_lease_is_an_ambiguous_attempt_with_its_reason():
    entry = outbox.enqueue(a_message())
    lose_worker(entry)

    assert rescue() == 1

    entry.refresh_from_db()
    assert (entry.state, entry.claim_id) == (State.SCHEDULED, None)
    attempt = Attempt.objects.get()
    assert (attempt.kind, attempt.code, attempt.worker, attempt.number) == ("ambiguous", "worker lost", "lost", 1)


def test_under_hold_it_waits_for_a_person():
    entry = outbox.enqueue(a_message(), on_ambiguous="hold")
    lose_worker(entry)

    rescue()

    entry.refresh_from_db()
    assert (entry.state, entry.state_reason) == (State.HELD, "ambiguous")


def test_three_lost_workers_are_poison():
    entry = outbox.enqueue(a_message())
    states = []
    for _ in range(3):
        lose_worker(entry)
        rescue()
        entry.refresh_from_db()
        states.append((entry.state, entry.state_reason))

    assert states == [(State.SCHEDULED, ""), (State.SCHEDULED, ""), (State.HELD, "poison")]
    assert Attempt.objects.count() == 3


def test_a_second_rescuer_finds_nothing():
    lose_worker(outbox.enqueue(a_message()))

    assert (rescue(), rescue()) == (1, 0)


def test_it_goes_in_small_batches():
    outbox.enqueue_many(a_message() for _ in range(130))
    transitions.claim("default", 130, claim_id=uuid4(), worker="lost", lease=-LEASE, database="default")

    assert (rescue(), rescue(), rescue()) == (100, 30, 0)
