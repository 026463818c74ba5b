"""promote, expire and claim."""

from datetime import timedelta
from uuid import uuid4

import pytest

from mail_outbox import outbox, transitions
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

SOON = timedelta(hours=1)
LEASE = timedelta(minutes=4)


def claim(room: int = 10, *, mailer: str = "default", oldest: int = 0) -> list[str]:
    """Claim, and return the subjects in the order of the queue."""
    claim_id = uuid4()
    keys = transitions.claim(
        mailer, room, claim_id=claim_id, oldest=range(room - oldest, room), worker="w", lease=LEASE, database="default"
    )
    entries = {entry.pk: entry for entry in OutboxEntry.objects.claimed(claim_id)}
    assert set(entries) == set(keys)
    return [entries[key].subject for key in keys]


class TestPromote:
    def test_what_has_become_due_is_queued_and_nothing_else(self):
        due, later = outbox.enqueue(a_message(), send_at=SOON), outbox.enqueue(a_message(), send_at=SOON)
        age(due, due_at=-2 * SOON)

        assert transitions.promote(database="default") == 1

        assert set(OutboxEntry.objects.values_list("pk", "state")) == {(due.pk, "queued"), (later.pk, "scheduled")}


class TestExpire:
    def test_what_is_past_its_expiry_is_never_sent(self):
        queued = outbox.enqueue(a_message(), expires_at=SOON)
        scheduled = outbox.enqueue(a_message(), expires_at=2 * SOON, send_at=SOON)
        outbox.enqueue(a_message(), expires_at=10 * SOON)
        for entry in (queued, scheduled):
            age(entry, expires_at=-3 * SOON)

        assert transitions.expire(database="default") == 2

        assert OutboxEntry.objects.filter(state=State.EXPIRED).count() == 2

    def test_the_claim_looks_again(self):
        entry = outbox.enqueue(a_message(), expires_at=SOON)
        age(entry, expires_at=-2 * SOON)

        assert claim() == []

        entry.refresh_from_db()
        assert (entry.state, entry.state_reason, entry.attempts) == (State.EXPIRED, "past its expiry", 0)


class TestClaim:
    def test_it_marks_before_anything_goes_out(self):
        entry = outbox.enqueue(a_message())

        claim()

        entry.refresh_from_db()
        assert (entry.state, entry.attempts, entry.worker) == (State.SENDING, 1, "w")
        assert entry.claim_id is not None
        assert timedelta(minutes=3) < entry.lease_expires_at - entry.due_at < timedelta(minutes=5)

    def test_it_takes_no_more_than_there_is_room_for(self):
        outbox.enqueue_many(a_message(str(number)) for number in range(5))

        assert claim(3) == ["0", "1", "2"]
        assert claim(3) == ["3", "4"]
        assert claim(3) == []

    def test_a_one_off_overtakes_a_bulk_run(self):
        outbox.enqueue_many((a_message("bulk") for _ in range(100)), priority=outbox.LOW)
        outbox.enqueue(a_message("one-off"))

        assert claim(3) == ["one-off", "bulk", "bulk"]

    def test_inside_a_priority_the_first_due_goes_first(self):
        first, second = outbox.enqueue(a_message("first")), outbox.enqueue(a_message("second"))
        age(second, due_at=-SOON)

        assert claim(1) == ["second"]
        assert claim(1) == [first.subject]

    def test_places_are_kept_for_what_has_waited_longest(self):
        low = outbox.enqueue(a_message("low"), priority=-100)
        age(low, due_at=-SOON)
        outbox.enqueue_many((a_message("high") for _ in range(20)), priority=100)

        assert claim(10, oldest=1) == ["high"] * 9 + ["low"]

    def test_the_oldest_is_not_taken_twice(self):
        outbox.enqueue_many(a_message(str(number)) for number in range(4))

        assert sorted(claim(4, oldest=2)) == ["0", "1", "2", "3"]

    def test_other_mailers_and_states_are_left_alone(self):
        outbox.enqueue(a_message("bulk"), using="bulk")
        outbox.enqueue(a_message("later"), send_at=SOON)
        outbox.hold(outbox.enqueue(a_message("held")), reason="r")

        assert claim() == []
