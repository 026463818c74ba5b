"""The same key at the same time: one entry."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import pytest
from django.db import transaction

from mail_outbox import outbox
from mail_outbox.models import OutboxEntry
from tests.races.parallel import Gate, at_once, beside
from tests.support import a_message

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

ROUNDS = 8


@pytest.mark.parametrize("around", [nullcontext, transaction.atomic], ids=["autocommit", "atomic"])
@pytest.mark.parametrize("many", [2, 5])
def test_a_key_used_by_many_at_once_makes_one_entry(around: Callable[[], AbstractContextManager[object]], many: int):
    def enqueue(key: str) -> tuple[int, bool]:
        with around():
            entry = outbox.enqueue(a_message(), idempotency_key=key)
        return entry.pk, entry.is_duplicate

    for number in range(ROUNDS):
        results = at_once(*[partial(enqueue, f"order-{number}")] * many)

        assert len({pk for pk, _ in results}) == 1
        assert sorted(is_duplicate for _, is_duplicate in results) == [False] + [True] * (many - 1)
    assert OutboxEntry.objects.count() == ROUNDS


def test_a_key_is_free_again_when_the_first_to_use_it_rolls_back():
    gate = Gate()

    def enqueue_and_fail() -> None:
        with transaction.atomic():
            outbox.enqueue(a_message("first"), idempotency_key="order")
            gate.hold()
            transaction.set_rollback(True)

    with beside(enqueue_and_fail):
        gate.wait_until_reached()
        with beside(lambda: outbox.enqueue(a_message("second"), idempotency_key="order")):
            gate.open()

    entry = OutboxEntry.objects.get()
    assert entry.subject == "second"
