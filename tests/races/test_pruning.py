"""Prune against enqueue: no bytes are lost that somebody needs, and none stay that nobody does."""

import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial

import pytest
from django.db import OperationalError, connection, transaction

from mail_outbox import outbox, transitions
from mail_outbox.core.envelope.streams import CHUNK
from mail_outbox.core.errors import UnreadableEnvelope
from mail_outbox.core.states import State
from mail_outbox.models import Attachment, AttachmentChunk, OutboxEntry, UtcNow
from mail_outbox.outbox.pruning import keep_house
from tests.races.parallel import Gate, at_once, before, beside
from tests.support import a_message

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

SHARED = [(f"{number}.pdf", bytes([number]) * (CHUNK + 1 if number else 10), "application/pdf") for number in range(3)]
ROUNDS = 40


def finish(entry: OutboxEntry) -> None:
    """Let the entry have been sent long ago."""
    OutboxEntry.objects.filter(pk=entry.pk).update(state=State.SENT, finished_at=UtcNow() - timedelta(days=31))


def enqueue_and_finish(seed: int) -> None:
    """Enqueue the shared attachments again and again: every other entry is old at once, one in four rolled back."""
    dice = random.Random(seed)
    for _ in range(ROUNDS):
        with transaction.atomic():
            entry = outbox.enqueue(a_message(attachments=dice.sample(SHARED, 2)))
            fate = dice.choice(["stays", "finishes", "finishes", "never was"])
            transaction.set_rollback(fate == "never was")
        if fate == "finishes":
            finish(entry)


def until(done: threading.Event, act: Callable[[], object]) -> None:
    while not done.is_set():
        act()


@pytest.mark.parametrize(
    "prune", [outbox.prune, partial(keep_house, "default", seconds=5)], ids=["prune", "housekeeping"]
)
def test_whatever_is_enqueued_while_others_prune_keeps_its_attachments(prune: Callable[[], object]):
    done = threading.Event()
    enqueuers = [partial(enqueue_and_finish, seed) for seed in range(4)]
    left = threading.Semaphore(0)

    def enqueue(act: Callable[[], None]) -> None:
        try:
            act()
        finally:
            left.release()

    def wait() -> None:
        for _ in enqueuers:
            left.acquire(timeout=120)
        done.set()

    at_once(wait, *[partial(enqueue, act) for act in enqueuers], *[partial(until, done, prune)] * 2)

    entries = OutboxEntry.objects.filter(state=State.QUEUED)
    assert entries.count() > ROUNDS / 2
    known = {content for _, content, _ in SHARED}
    for entry in entries:
        assert all(attachment.content in known for attachment in entry.message().attachments)

    outbox.prune(sent=timedelta(0))
    for entry in entries:
        finish(entry)
    outbox.prune()
    assert not Attachment.objects.exists()
    assert not AttachmentChunk.objects.exists()


def test_an_attachment_that_is_about_to_be_linked_to_is_not_pruned():
    if connection.vendor == "sqlite":
        pytest.skip("the writer is alone")
    finish(outbox.enqueue(a_message(attachments=SHARED)))

    with before("INSERT INTO .mail_outbox_attachmentuse", outbox.prune) as pruned:
        outbox.enqueue(a_message(attachments=SHARED))

    assert [(result.entries, result.attachments) for result in pruned] == [(1, 0)]
    assert len(OutboxEntry.objects.get().message().attachments) == 3


def test_an_attachment_that_was_linked_to_after_it_was_found_unused_is_not_pruned():
    outbox.enqueue(a_message(attachments=SHARED)).delete()
    enqueue = partial(outbox.enqueue, a_message(attachments=SHARED))

    with before("^BEGIN|FOR UPDATE", enqueue) as enqueued:
        result, _ = transitions.prune_unused_attachments(after="", database="default")

    assert len(enqueued) == 1
    assert result.attachments == 0
    assert len(OutboxEntry.objects.get().message().attachments) == 3


def test_enqueuers_of_the_same_attachment_do_not_wait_for_each_other():
    if connection.vendor == "sqlite":
        pytest.skip("the writer is alone")
    outbox.enqueue(a_message(attachments=SHARED))
    gate = Gate()

    def enqueue_slowly() -> None:
        with transaction.atomic():
            outbox.enqueue(a_message(attachments=SHARED))
            gate.hold()

    with beside(enqueue_slowly):
        gate.wait_until_reached()
        outbox.enqueue(a_message(attachments=SHARED))
        gate.open()

    assert OutboxEntry.objects.count() == 3


def test_many_who_bring_the_same_new_bytes_at_once_store_them_once():
    for number in range(8):
        new = [(name, bytes([number + 100]) + content, kind) for name, content, kind in SHARED]
        acts = [partial(outbox.enqueue, a_message(attachments=random.Random(seed).sample(new, 3))) for seed in range(5)]

        entries = at_once(*acts)

        for entry in entries:
            assert len(OutboxEntry.objects.get(pk=entry.pk).message().attachments) == 3
    assert Attachment.objects.count() == 8 * len(SHARED)


def test_a_rollback_leaves_no_attachment_behind():
    with transaction.atomic():
        outbox.enqueue(a_message(attachments=SHARED))
        transaction.set_rollback(True)

    assert not Attachment.objects.exists()
    assert not AttachmentChunk.objects.exists()


@pytest.mark.parametrize("around", [nullcontext, transaction.atomic], ids=["autocommit", "atomic"])
def test_what_is_pruned_while_it_is_sent_again_is_said_to_be_gone(around: Callable[[], AbstractContextManager[object]]):
    if connection.vendor == "sqlite":
        pytest.skip("the writer is alone")
    finish(entry := outbox.enqueue(a_message()))

    with (
        before("FROM mail_outbox_outboxentry WHERE id", outbox.prune) as pruned,
        around(),
        pytest.raises(UnreadableEnvelope, match="pruned meanwhile"),
    ):
        outbox.resend(entry)

    assert [result.entries for result in pruned] == [1]
    assert not OutboxEntry.objects.exists()


def test_who_sends_again_what_is_being_pruned_waits_and_does_not_stop_the_prune():
    if connection.vendor != "postgresql":
        pytest.skip("InnoDB knows one kind of lock for writing")
    finish(entry := outbox.enqueue(a_message()))

    def try_to_send_again() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '200ms'")
        with pytest.raises(OperationalError) as caught, transaction.atomic():
            outbox.resend(entry)
        return str(caught.value)

    with before("DELETE FROM .mail_outbox_outboxentry", try_to_send_again) as told:
        assert outbox.prune().entries == 1

    assert "lock timeout" in told[0]
