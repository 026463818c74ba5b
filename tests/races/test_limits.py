"""Several workers at the limits of one mailer: no slot and no connection is had twice."""

from datetime import timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
from django.db import OperationalError, connection

from mail_outbox import outbox, transitions
from mail_outbox.core.rates import Slot, parse_rate
from mail_outbox.core.states import State
from mail_outbox.models import ConnectionShare, MailerState, OutboxEntry
from tests.fakes import Provider
from tests.races.parallel import at_once
from tests.support import a_message

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

COUNT = 120
RATE = parse_rate("1000/s")


def claim_some() -> list[Slot]:
    """Claim as a worker does, three at a time; a deadlock, which InnoDB may see here, takes nothing."""
    slots: list[Slot] = []
    for _ in range(COUNT // 12):
        try:
            reservation = transitions.claim_in_slots(
                "default",
                3,
                rate=RATE,
                claim_id=uuid4(),
                oldest_of=lambda places: range(0),
                worker="worker",
                lease=timedelta(minutes=1),
                database="default",
            )
        except OperationalError:
            assert connection.vendor == "mysql"
            continue
        slots += reservation.slots.values()
    return slots


def test_no_two_workers_have_the_same_slot(provider: Provider):
    outbox.enqueue_many(a_message() for _ in range(COUNT))

    found = at_once(*[claim_some] * 4)

    slots = sorted((slot for slots in found for slot in slots), key=lambda slot: slot.opens_at)
    assert len(slots) == OutboxEntry.objects.filter(state=State.SENDING).count() > COUNT / 2
    assert all(later.opens_at >= earlier.next_at for earlier, later in pairwise(slots))
    assert MailerState.objects.get().next_slot_at == slots[-1].next_at


def test_a_slot_given_back_is_not_given_to_two(provider: Provider):
    outbox.enqueue_many(a_message() for _ in range(COUNT))
    kept: list[Slot] = []

    def claim_and_give_back() -> None:
        for slot in reversed(claim_some()):
            is_given_back = transitions.refund_slot("default", slot, database="default")
            kept.extend([] if is_given_back else [slot])

    at_once(*[claim_and_give_back] * 4)

    # What could not be given back may have been used by its owner: nobody else had it.
    assert len({slot.opens_at for slot in kept}) == len(kept)


def test_workers_that_want_connections_at_the_same_moment_keep_to_the_limit(provider: Provider):
    seen: list[int] = []

    def take_and_look(worker: str) -> None:
        for wanted in (1, 3, 2, 5):
            transitions.take_share(
                "default", worker=worker, wanted=wanted, limit=6, length=timedelta(minutes=1), database="default"
            )
            seen.append(sum(ConnectionShare.objects.values_list("count", flat=True)))

    at_once(*[lambda worker=worker: take_and_look(worker) for worker in "abcd"])

    assert max(seen) <= 6
    assert sum(ConnectionShare.objects.values_list("count", flat=True)) == 6
