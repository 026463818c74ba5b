"""The same key at the same time: one entry."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.models import EntryContent, OutboxEntry, UtcNow
from tests.races.parallel import Gate, at_once, before, beside
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


def finish(entry: OutboxEntry) -> None:
    """Let the entry have been sent long ago."""
    OutboxEntry.objects.filter(pk=entry.pk).update(state=State.SENT, finished_at=UtcNow() - timedelta(days=31))


@pytest.mark.skipif(connection.vendor == "sqlite", reason="the writer is alone")
def test_a_key_whose_content_is_pruned_while_it_is_compared_with_has_been_used():
    first = outbox.enqueue(a_message("first"), idempotency_key="order")
    finish(first)
    prune = partial(outbox.prune, content=timedelta(days=1), sent=timedelta(days=99))

    with before(f"SELECT .*FROM .{EntryContent._meta.db_table}", prune) as pruned:
        second = outbox.enqueue(a_message("second"), idempotency_key="order")

    assert [result.contents for result in pruned] == [1]
    assert (second.pk, second.is_duplicate) == (first.pk, True)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="the writer is alone")
def test_a_key_whose_entry_is_pruned_before_it_can_be_replaced_is_free_again():
    first = outbox.enqueue(a_message("first"), idempotency_key="order")
    finish(first)

    with before("FOR UPDATE", outbox.prune) as pruned:
        second = outbox.enqueue(a_message("second"), idempotency_key="order", on_conflict="replace")

    assert [result.entries for result in pruned] == [1]
    assert (second.is_duplicate, OutboxEntry.objects.get().subject) == (False, "second")
