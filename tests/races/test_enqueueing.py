"""Transactions that bring the same new bytes at the same time."""

import threading
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

import pytest
from django.core.mail import EmailMessage
from django.db import OperationalError, connection, transaction

from mail_outbox import outbox
from mail_outbox.models import Attachment, OutboxEntry
from mail_outbox.outbox import enqueueing
from tests.races.parallel import PATIENCE, at_once
from tests.support import a_message

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

ONE, OTHER = (("terms.pdf", b"%PDF " + letter, "application/pdf") for letter in (b"a", b"b"))


@pytest.mark.skipif(connection.vendor == "sqlite", reason="there is one writer at a time")
def test_bulks_that_bring_the_same_new_bytes_in_another_order_do_not_deadlock(monkeypatch):
    monkeypatch.setattr(enqueueing, "BATCH", 2)
    first_batches_written = threading.Barrier(2, timeout=PATIENCE)

    def messages(files: Sequence[tuple[str, bytes, str]]) -> Iterator[EmailMessage]:
        for number, file in enumerate(files):
            if number == 2:
                first_batches_written.wait()
            yield a_message(str(number), attachments=[file])

    def enqueue(*files: tuple[str, bytes, str]) -> int:
        return len(outbox.enqueue_many(messages(files)))

    counts = at_once(lambda: enqueue(ONE, ONE, OTHER, OTHER), lambda: enqueue(OTHER, OTHER, ONE, ONE))

    assert counts == [4, 4]
    assert Attachment.objects.count() == 2
    assert {len(entry.message().attachments) for entry in OutboxEntry.objects.all()} == {1}


@pytest.mark.skipif(connection.vendor == "sqlite", reason="there is one writer at a time")
def test_enqueues_that_cross_in_two_transactions_cost_one_of_them_a_deadlock_and_no_mail():
    # Never seen before: InnoDB locks more around the marks that deleted rows of the same digest leave behind.
    one, other = (("terms.pdf", b"%PDF " + uuid4().bytes, "application/pdf") for _ in range(2))
    both_have_one = threading.Barrier(2, timeout=PATIENCE)

    def enqueue(files: Sequence[tuple[str, bytes, str]], meet: Callable[[], object]) -> None:
        with transaction.atomic():
            outbox.enqueue(a_message(attachments=files[:1]))
            meet()
            outbox.enqueue(a_message(attachments=files[1:]))

    def enqueue_again_after_trouble(*files: tuple[str, bytes, str]) -> int:
        try:
            enqueue(files, both_have_one.wait)
        except OperationalError:
            enqueue(files, lambda: None)
            return 1
        return 0

    troubles = at_once(lambda: enqueue_again_after_trouble(one, other), lambda: enqueue_again_after_trouble(other, one))

    assert sorted(troubles) == [0, 1]
    assert Attachment.objects.count() == 2
    found = sorted(entry.message().attachments[0].content for entry in OutboxEntry.objects.all())
    assert found == sorted([one[1], other[1]] * 2)


def test_enqueues_whose_bytes_are_being_pruned_do_not_deadlock():
    rounds = range(60)
    both = threading.Barrier(2, timeout=PATIENCE)
    done = threading.Event()

    def enqueue() -> OutboxEntry:
        with transaction.atomic():
            return outbox.enqueue(a_message(attachments=[ONE, OTHER]))

    def enqueue_and_delete() -> int:
        troubles = 0
        try:
            for _ in rounds:
                both.wait()
                try:
                    entry = enqueue()
                except OperationalError:
                    troubles += 1
                    entry = enqueue()
                entry.delete()
        except BaseException:
            both.abort()  # not in any case: the other may not have come out of it yet
            raise
        finally:
            done.set()
        return troubles

    def prune() -> int:
        count = 0
        while not done.is_set():
            count += outbox.prune().attachments
        return count

    *troubles, pruned = at_once(enqueue_and_delete, enqueue_and_delete, prune)

    # InnoDB shows a commit a moment before it lets its locks go: both of them have to look in that very moment.
    assert sum(troubles) <= (2 if connection.vendor == "mysql" else 0)
    assert pruned > 0
