"""attach_file: named now, read a piece at a time at enqueue, refused by name where that cannot be done."""

from collections import Counter
from pathlib import Path

import pytest
from django.core.files.base import ContentFile, File
from django.core.files.storage import InMemoryStorage, storages
from django.core.mail import EmailMessage
from django.db import connection, transaction

from mail_outbox import outbox
from mail_outbox.core.envelope.streams import CHUNK
from mail_outbox.models import Attachment, AttachmentChunk, OutboxEntry
from tests.support import a_message

pytestmark = pytest.mark.django_db

PDF = b"%PDF\0\xff" * (CHUNK // 4)


class CountingStorage(InMemoryStorage):
    """A storage that counts how often each file is opened, and may give another content each time."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: Counter[str] = Counter()
        self.is_restless = False

    def _open(self, name: str, mode: str = "rb") -> File:
        self.opened[name] += 1
        return ContentFile(bytes([self.opened[name]])) if self.is_restless else super()._open(name, mode)

    def size(self, name: str) -> int:
        return super()._open(name).size


@pytest.fixture
def storage() -> CountingStorage:
    storage = CountingStorage()
    storage.save("terms.pdf", ContentFile(PDF))
    return storage


def with_file(*arguments: object, **keywords: object) -> EmailMessage:
    message = a_message()
    outbox.attach_file(message, *arguments, **keywords)  # type: ignore[arg-type]
    return message


def attachments_of(entry: OutboxEntry) -> list[tuple[object, ...]]:
    return [tuple(attachment) for attachment in OutboxEntry.objects.get(pk=entry.pk).message().attachments]


def test_a_file_comes_back_as_an_ordinary_attachment(tmp_path: Path):
    path = tmp_path / "terms.pdf"
    path.write_bytes(PDF)

    entry = outbox.enqueue(with_file(path))

    assert attachments_of(entry) == [("terms.pdf", PDF, "application/pdf")]
    assert {len(chunk.data) for chunk in AttachmentChunk.objects.all()} == {CHUNK, len(PDF) - CHUNK}


def test_a_text_file_comes_back_as_text(tmp_path: Path):
    path = tmp_path / "list.csv"
    path.write_text("größe;1\r\n", encoding="utf-8", newline="")

    assert attachments_of(outbox.enqueue(with_file(str(path)))) == [("list.csv", "größe;1\r\n", "text/csv")]


def test_the_names_can_be_others_than_the_files(tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(b"1")

    entry = outbox.enqueue(with_file(path, filename="a.bin", mimetype="application/x-mine"))

    assert attachments_of(entry) == [("a.bin", b"1", "application/x-mine")]


def test_a_file_in_a_storage_is_found_by_its_name(storage: CountingStorage):
    assert attachments_of(outbox.enqueue(with_file("terms.pdf", storage=storage)))[0][1] == PDF


def test_a_storage_can_be_named_by_its_alias(settings):
    settings.STORAGES = {"papers": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
    storages["papers"].save("terms.pdf", ContentFile(PDF))

    assert attachments_of(outbox.enqueue(with_file("terms.pdf", storage="papers")))[0][1] == PDF


@pytest.mark.parametrize("storage", [None, InMemoryStorage(), "nowhere"], ids=["a path", "a storage", "no storage"])
def test_a_file_that_is_not_there_is_refused_by_name_at_enqueue(storage: InMemoryStorage | str | None):
    message = with_file("/no/such/terms.pdf", storage=storage)

    with pytest.raises(outbox.InvalidMessage, match=r"The file '/no/such/terms\.pdf'.* cannot be read"):
        outbox.enqueue(message)

    assert not OutboxEntry.objects.exists()


def test_a_folder_is_no_file(tmp_path: Path):
    with pytest.raises(outbox.InvalidMessage, match="Is a directory"):
        outbox.enqueue(with_file(tmp_path))


def test_a_file_that_is_too_large_is_refused_without_reading_it(storage: CountingStorage, settings):
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "MAX_MESSAGE_BYTES": len(PDF)}

    with pytest.raises(outbox.InvalidMessage, match="bytes"):
        outbox.enqueue(with_file("terms.pdf", storage=storage))

    assert not storage.opened


def test_bytes_that_are_stored_already_are_not_read_to_be_written(storage: CountingStorage):
    outbox.enqueue(with_file("terms.pdf", storage=storage))
    outbox.enqueue(with_file("terms.pdf", storage=storage))

    assert storage.opened["terms.pdf"] == 3  # read, written; read
    assert Attachment.objects.count() == 1


def test_a_file_that_many_carry_is_read_once_for_all(storage: CountingStorage):
    outbox.enqueue_many(with_file("terms.pdf", storage=storage) for _ in range(600))

    assert storage.opened["terms.pdf"] == 2  # read and written


def test_a_file_that_changes_meanwhile_is_refused_and_the_transaction_goes_on(storage: CountingStorage):
    storage.is_restless = True

    with transaction.atomic():
        with pytest.raises(outbox.InvalidMessage, match=r"'terms\.pdf' has changed"):
            outbox.enqueue(with_file("terms.pdf", storage=storage))
        assert not connection.needs_rollback
        outbox.enqueue(a_message("the next"))

    assert [entry.subject for entry in OutboxEntry.objects.all()] == ["the next"]
    assert not Attachment.objects.exists()


def test_the_message_is_not_changed_by_enqueueing_it(storage: CountingStorage):
    message = with_file("terms.pdf", storage=storage)

    outbox.enqueue(message)
    outbox.enqueue(message)

    assert OutboxEntry.objects.count() == 2
