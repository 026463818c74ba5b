"""Attachments on their way into a storage, against those who read them, link to them and prune them."""

import random
from pathlib import Path

import pytest
from django.db import transaction

from mail_outbox import outbox
from mail_outbox.models import Attachment, OutboxEntry, StoredFile
from mail_outbox.outbox.storing import store_attachments
from tests.races.parallel import at_once
from tests.support import a_message

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

PDFS = [(f"{number}.pdf", bytes([number]) * 70_000, "application/pdf") for number in range(20)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings) -> Path:
    """Let large attachments go into a folder."""
    backend = "django.core.files.storage.FileSystemStorage"
    settings.STORAGES = {"folder": {"BACKEND": backend, "OPTIONS": {"location": tmp_path}}}
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ATTACHMENT_STORAGE": "folder"}
    return tmp_path


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_attachment_is_whole_to_whoever_reads_it_while_it_moves():
    entries = outbox.enqueue_many(a_message(attachments=[pdf]) for pdf in PDFS)

    def read() -> int:
        found = [OutboxEntry.objects.get(pk=entry.pk).message().attachments[0] for entry in reversed(entries * 3)]
        assert {attachment.content for attachment in found} == {content for _, content, _ in PDFS}
        return 0

    moved, *_ = at_once(lambda: store_attachments(database="default"), read, read)

    assert moved == len(PDFS)


def test_whoever_moves_links_and_prunes_at_once_loses_no_bytes_and_leaves_no_file(folder: Path):
    def enqueue(seed: int) -> int:
        dice = random.Random(seed)
        for _ in range(30):
            with transaction.atomic():
                entry = outbox.enqueue(a_message(attachments=dice.sample(PDFS, 2)))
            if dice.random() < 0.7:
                entry.delete()
        return 0

    def keep() -> int:
        for _ in range(10):
            outbox.prune()
            store_attachments(database="default")
        return 0

    at_once(lambda: enqueue(1), lambda: enqueue(2), keep, keep)

    for entry in OutboxEntry.objects.all():
        assert len(entry.message().attachments) == 2
    store_attachments(database="default")
    outbox.prune()
    assert not StoredFile.objects.exists()
    assert files_in(folder) == set(Attachment.objects.values_list("storage_name", flat=True)) != set()
