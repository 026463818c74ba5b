"""Texts that many messages have are stored once, and come back as if each had its own."""

from typing import Any

import pytest
from anymail.message import AnymailMessage

from mail_outbox import outbox
from mail_outbox.core.envelope import blob_names, digest
from mail_outbox.models import Attachment, EntryContent, OutboxEntry
from mail_outbox.transitions import BATCH
from tests.fakes import Provider
from tests.support import a_message

pytestmark = pytest.mark.django_db

LONG = "Größe 🐒\r\n" * 1_000


def read(entry: OutboxEntry) -> Any:
    """Return the entry's message as another process finds it."""
    return OutboxEntry.objects.get(pk=entry.pk).message()


def test_a_body_that_all_have_is_stored_once():
    entries = outbox.enqueue_many(a_message(str(number), body=LONG) for number in range(20))

    assert [each.size for each in Attachment.objects.all()] == [len(LONG.encode())]
    assert LONG not in str(entries[0].content.payload)
    assert [(read(entry).subject, read(entry).body) for entry in entries] == [
        (str(number), LONG) for number in range(20)
    ]


def test_a_body_is_shared_with_the_batches_before():
    bodies = [LONG] * BATCH + ["short", LONG]

    entries = outbox.enqueue_many(a_message(body=body) for body in bodies)

    assert Attachment.objects.count() == 1
    assert [len(blob_names(entry.content.payload)) for entry in entries[-2:]] == [0, 1]
    assert [read(entry).body for entry in entries[-2:]] == ["short", LONG]


def test_a_body_that_one_has_is_stored_with_it():
    entry, _ = outbox.enqueue_many([a_message(body=LONG), a_message()])

    assert not Attachment.objects.exists()
    assert read(entry).body == LONG


def test_a_single_message_keeps_its_body():
    for entry in (outbox.enqueue(a_message(body=LONG)), outbox.enqueue(a_message(body=LONG))):
        assert read(entry).body == LONG

    assert not Attachment.objects.exists()


def test_the_digest_is_that_of_the_content():
    shared, _ = outbox.enqueue_many([a_message(body=LONG), a_message(body=LONG)])
    single = outbox.enqueue(a_message(body=LONG), idempotency_key="k")

    assert digest(EntryContent.objects.get(pk=shared.pk).payload) == EntryContent.objects.get(pk=single.pk).digest


def test_what_has_no_key_to_be_compared_by_has_no_digest():
    assert outbox.enqueue(a_message()).content.digest == ""


def test_a_text_as_deep_as_can_be_is_shared_on_every_database():
    value: Any = LONG
    for _ in range(9):
        value = {"level": value}

    entries = outbox.enqueue_many(
        AnymailMessage("Hi", "Text", "shop@example.com", ["jane@example.com"], metadata=value) for _ in range(2)
    )

    assert Attachment.objects.count() == 1
    assert [read(entry).metadata for entry in entries] == [value, value]


@pytest.mark.django_db(transaction=True)
def test_what_is_shared_is_sent_and_sent_again(provider: Provider):
    entries = outbox.enqueue_many(
        a_message(str(number), body=LONG, attachments=[("terms.pdf", b"%PDF", "application/pdf")])
        for number in range(3)
    )
    outbox.drain()
    again = outbox.resend(OutboxEntry.objects.get(pk=entries[1].pk))
    outbox.drain()

    assert sorted(provider.subjects) == ["0", "1", "1", "2"]
    assert {message.body for message in provider.accepted} == {LONG}
    assert read(again).attachments[0][1] == b"%PDF"
