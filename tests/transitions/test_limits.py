"""Slots and shares: what is reserved with a claim, what is given back, and who may have it."""

from datetime import timedelta
from uuid import uuid4

import pytest

from mail_outbox import outbox, transitions
from mail_outbox.core.outcomes import MailerTrouble, Throttled
from mail_outbox.core.rates import parse_rate
from mail_outbox.models import ConnectionShare, MailerState, OutboxEntry, UtcNow
from mail_outbox.transitions import Reservation
from tests.support import a_message

pytestmark = pytest.mark.django_db

LEASE = timedelta(minutes=4)
SECOND = timedelta(seconds=1)


def claim(rate: str, room: int = 100) -> Reservation:
    return transitions.claim_in_slots(
        "default",
        room,
        rate=parse_rate(rate),
        claim_id=uuid4(),
        oldest_of=lambda places: range(0),
        worker="w",
        lease=LEASE,
        database="default",
    )


def openings(reservation: Reservation) -> list[float]:
    """Return when each slot opens, in seconds from the first."""
    moments = [slot.opens_at for slot in reservation.slots.values()]
    return [round((moment - moments[0]).total_seconds(), 3) for moment in moments]


def slow_down(alias: str = "default", *, probed: bool = False) -> None:
    transitions.note_outcomes(alias, [Throttled()], probed=probed, luck=1.0, database="default")


class TestClaimInSlots:
    def test_no_more_is_claimed_than_has_a_slot_within_a_second(self):
        entries = outbox.enqueue_many(a_message() for _ in range(50))

        reservation = claim("70/m")

        assert list(reservation.slots) == [entry.pk for entry in entries[:2]]
        assert openings(reservation) == [0, 0.861]
        assert OutboxEntry.objects.filter(state="sending", attempts=1).count() == 2
        assert not claim("70/m").slots

    def test_the_next_claim_goes_on_where_the_last_one_ended(self):
        outbox.enqueue_many(a_message() for _ in range(10))

        first, second = claim("4/s", 3), claim("4/s", 3)

        last = list(first.slots.values())[-1]
        assert next(iter(second.slots.values())).opens_at == last.next_at == first.next_at
        assert MailerState.objects.get().next_slot_at == second.next_at

    def test_slots_that_nobody_needs_stay_free(self):
        outbox.enqueue_many(a_message() for _ in range(2))

        reservation = claim("20/s")

        assert len(reservation.slots) == 2
        assert MailerState.objects.get().next_slot_at == list(reservation.slots.values())[-1].next_at

    def test_without_work_nothing_is_reserved(self):
        assert not claim("20/s").slots
        assert MailerState.objects.get().next_slot_at is None

    def test_time_that_went_by_unused_is_not_made_up_for(self):
        outbox.enqueue_many(a_message() for _ in range(50))
        claim("4/s", 1)
        MailerState.objects.update(next_slot_at=UtcNow() - timedelta(hours=1))

        reservation = claim("4/s")

        assert len(reservation.slots) == 4
        assert next(iter(reservation.slots.values())).opens_at == reservation.now

    def test_recipients_are_what_is_counted_where_the_rate_says_so(self):
        many = [f"reader{number}@example.com" for number in range(8)]
        outbox.enqueue(a_message(to=many[:2], cc=many[2:3], bcc=many[3:4]))
        outbox.enqueue_many(a_message() for _ in range(10))

        assert openings(claim("8 recipients/s")) == [0, 0.502, 0.628, 0.754, 0.879]

    def test_only_the_recipients_that_are_still_open_are_counted(self):
        many = [f"reader{number}@example.com" for number in range(4)]
        entry = outbox.enqueue(a_message(to=many))
        entry.recipients.exclude(address=many[0]).update(status="accepted")
        outbox.enqueue(a_message())

        assert openings(claim("8 recipients/s")) == [0, 0.126]

    def test_more_recipients_than_ever_fit_go_all_the_same_and_are_paid_for_afterwards(self):
        outbox.enqueue(a_message(to=[f"reader{number}@example.com" for number in range(40)]))
        outbox.enqueue(a_message())

        reservation = claim("4 recipients/s")

        assert len(reservation.slots) == 1
        assert reservation.next_at - reservation.now == timedelta(seconds=10.05)

    def test_a_claim_for_few_slots_does_not_only_take_the_oldest(self):
        outbox.enqueue_many((a_message("low") for _ in range(3)), priority=outbox.LOW)
        urgent = outbox.enqueue(a_message("urgent"), priority=outbox.HIGH)

        assert list(claim("1/h").slots) == [urgent.pk]


class TestRefund:
    def test_the_last_slot_is_given_back(self):
        outbox.enqueue_many(a_message() for _ in range(3))
        slots = list(claim("20/s").slots.values())

        assert transitions.refund_slot("default", slots[2], database="default")
        assert transitions.refund_slot("default", slots[1], database="default")

        assert MailerState.objects.get().next_slot_at == slots[1].opens_at

    def test_a_slot_with_others_behind_it_is_lost(self):
        outbox.enqueue_many(a_message() for _ in range(3))
        reservation = claim("20/s")

        assert not transitions.refund_slot("default", next(iter(reservation.slots.values())), database="default")

        assert MailerState.objects.get().next_slot_at == reservation.next_at


class TestReserveSlot:
    def reserve(self, rate: str, *, within: timedelta, recipients: int = 1) -> timedelta | None:
        return transitions.reserve_slot(
            "default", rate=parse_rate(rate), recipients=recipients, within=within, database="default"
        )

    def test_one_message_waits_for_its_slot(self):
        assert self.reserve("10/m", within=10 * SECOND) == timedelta(0)
        assert timedelta(seconds=5) < self.reserve("10/m", within=10 * SECOND) < timedelta(seconds=6.1)
        assert self.reserve("10/m", within=10 * SECOND) is None

    def test_what_does_not_open_in_time_is_not_taken(self):
        self.reserve("1/h", within=SECOND)
        before = MailerState.objects.get().next_slot_at

        assert self.reserve("1/h", within=SECOND) is None
        assert MailerState.objects.get().next_slot_at == before


class TestAwaiting:
    def wait(self, worker: str, length: timedelta = 10 * SECOND) -> bool:
        return transitions.await_slot("default", worker=worker, length=length, database="default")

    def test_one_worker_waits_and_the_others_need_not(self):
        claim("1/m")

        assert self.wait("a")
        assert not self.wait("b")
        assert self.wait("a")

        transitions.leave_slot("default", worker="a", database="default")
        assert self.wait("b")

    def test_who_does_not_come_back_is_replaced(self):
        claim("1/m")

        assert self.wait("a", -SECOND)
        assert self.wait("b")

    def test_nobody_ends_the_waiting_of_another(self):
        claim("1/m")
        self.wait("a")

        transitions.leave_slot("default", worker="b", database="default")

        assert not self.wait("b")


class TestSlowingDown:
    def test_throttling_halves_the_rate(self):
        outbox.enqueue_many(a_message() for _ in range(50))

        slow_down()

        assert len(claim("20/s").slots) == 10

    def test_senders_that_are_throttled_together_halve_it_once(self):
        for _ in range(8):
            slow_down()

        assert MailerState.objects.get().allowance == 0.5

    def test_a_probe_that_is_throttled_halves_it_again(self):
        slow_down()
        slow_down(probed=True)

        assert MailerState.objects.get().allowance == pytest.approx(0.25, abs=0.01)

    def test_it_recovers_with_time(self):
        slow_down()
        MailerState.objects.update(slowed_at=UtcNow() - timedelta(minutes=2))
        slow_down(probed=True)

        assert MailerState.objects.get().allowance == pytest.approx(0.35, abs=0.01)

    def test_other_trouble_slows_nothing_down(self):
        transitions.note_outcomes("default", [MailerTrouble()], probed=False, luck=1.0, database="default")

        assert MailerState.objects.get().allowance == 1.0


class TestShares:
    def take(self, worker: str, wanted: int, *, limit: int = 5, length: timedelta = LEASE) -> int:
        return transitions.take_share(
            "default", worker=worker, wanted=wanted, limit=limit, length=length, database="default"
        )

    def test_all_together_keep_to_the_limit(self):
        assert [self.take(worker, 2) for worker in "abcd"] == [2, 2, 1, 0]

    def test_a_share_can_grow_and_shrink(self):
        assert self.take("a", 2) == 2
        assert self.take("b", 2) == 2
        assert self.take("a", 4) == 3
        assert self.take("a", 1) == 1
        assert self.take("b", 4) == 4

    def test_what_is_given_back_is_free(self):
        self.take("a", 5)
        transitions.give_share_back("default", worker="a", database="default")

        assert self.take("b", 5) == 5

    def test_what_ran_out_is_free_and_its_owner_has_to_ask_like_everybody(self):
        assert self.take("a", 5, length=-SECOND) == 5

        assert self.take("b", 4) == 4
        assert self.take("a", 5) == 1

    def test_to_want_nothing_leaves_nothing_behind(self):
        self.take("a", 5)
        self.take("a", 0)

        assert not ConnectionShare.objects.exists()

    def test_each_mailer_has_connections_of_its_own(self):
        self.take("a", 5)
        others = transitions.take_share("bulk", worker="b", wanted=5, limit=5, length=LEASE, database="default")

        assert others == 5
