"""After `erase` nothing of ours holds the person's address or mail: searched byte by byte in a dump of the database."""

import logging
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.apps import apps
from django.core.files.storage import FileSystemStorage, storages
from django.core.mail import EmailMessage
from django.db import connection

from mail_outbox import outbox
from mail_outbox.core.envelope.streams import CHUNK
from mail_outbox.core.outcomes import Kind
from mail_outbox.models import (
    Attachment,
    Attempt,
    DeliveryEvent,
    EntryContent,
    MailerState,
    OutboxEntry,
    Recipient,
    StoredFile,
    Suppression,
    UtcNow,
)
from mail_outbox.outbox.storing import store_attachments
from tests.fakes import REFUSED
from tests.support import a_message

pytestmark = pytest.mark.django_db(transaction=True)

JANE = "jane.doe@example.com"
SECRETS = (JANE, "Yellow submarine", "Octopus garden", "walrus bytes")
LARGE = b"walrus bytes " * 10_000
LARGE_LIST = b"\x00" * (2 * CHUNK - 5) + f";{JANE.upper()};".encode() + b"\xff" * CHUNK
"""With the address where two pieces meet."""
OTHERS = b"x" * CHUNK


@pytest.fixture
def log(caplog) -> Iterator[pytest.LogCaptureFixture]:
    """Catch everything that is logged, however unimportant."""
    with caplog.at_level(logging.DEBUG):
        yield caplog


def dump() -> bytes:
    """Return all that the database keeps, as bytes: a file without free pages, a dump with the indexes, or every row."""
    match connection.vendor:
        case "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            with sqlite3.connect(connection.settings_dict["NAME"]) as file:
                file.execute("VACUUM")
                file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            file.close()
            return Path(connection.settings_dict["NAME"]).read_bytes() + rows()
        case "postgresql" if shutil.which("pg_dump"):
            given = connection.settings_dict
            command = ["pg_dump", "-h", given["HOST"], "-p", str(given["PORT"]), "-U", given["USER"], given["NAME"]]
            environment = {**os.environ, "PGPASSWORD": given["PASSWORD"]}
            dumped = subprocess.run(command, capture_output=True, check=True, env=environment)
            return dumped.stdout + rows()
    return rows()


@pytest.fixture
def shelf(settings, tmp_path: Path) -> Path:
    """Let large attachments go to a storage, and return the folder that it keeps them in."""
    settings.STORAGES = {**settings.STORAGES, "shelf": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
    storages._storages["shelf"] = FileSystemStorage(tmp_path / "shelf")
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ATTACHMENT_STORAGE": "shelf"}
    return tmp_path / "shelf"


def contents_of(folder: Path) -> bytes:
    """Return the names and the bytes of all files there."""
    return b"\n".join(path.name.encode() + b"\n" + path.read_bytes() for path in folder.rglob("*") if path.is_file())


def rows() -> bytes:
    """Return every value of every table of ours, its bytes as they are."""
    found: list[bytes] = []
    with connection.cursor() as cursor:
        for model in apps.get_app_config("mail_outbox").get_models():
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(model._meta.db_table)}")  # noqa: S608
            for row in cursor.fetchall():
                found += [bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode() for cell in row]
    return b"\n".join(found)


def found_in(data: bytes) -> list[str]:
    """List what of the person is there, in any case."""
    return [word for word in SECRETS if word.lower().encode() in data.lower()]


def mail(to: str = f"Jane <{JANE.title()}>", **options) -> EmailMessage:
    options = {"body": "Octopus garden", "attachments": [("a.bin", b"walrus bytes", "x/y")], **options}
    return a_message("Yellow submarine", to=[to], **options)


def everything(provider) -> None:
    """Leave traces of the person wherever there can be any."""
    sent = outbox.enqueue(
        mail(), idempotency_key=f"welcome:{JANE.title()}", tags=[f"user:{JANE.upper()}"], metadata={"who": JANE}
    )
    OutboxEntry.objects.filter(pk=sent.pk).update(related=f"auth.user:{JANE}", message_id=f"<{JANE}@x.example>")
    outbox.drain()
    provider.will(REFUSED)
    failed = outbox.enqueue(mail())
    outbox.drain()
    OutboxEntry.objects.filter(pk=failed.pk).update(outcome_text=f"550 {JANE}: no Octopus garden", state_reason=JANE)
    Attempt.objects.filter(entry=failed).update(text=f"550 {JANE}: no Octopus garden")
    Recipient.objects.filter(entry=failed).update(text=f"550 {JANE}")
    DeliveryEvent.objects.create(
        entry=sent,
        recipient=sent.recipients.get(),
        esp="x",
        event_id=f"1-{JANE}",
        event_type="bounced",
        happened_at=UtcNow(),
        received_at=UtcNow(),
        text=JANE,
    )
    MailerState.objects.create(alias="bulk", pause_reason=f"because of {JANE.upper()}")
    outbox.enqueue(mail())
    outbox.enqueue(mail(), send_at=timedelta(hours=1))
    outbox.hold(outbox.enqueue(mail()), reason=JANE)
    about = a_message("New order", body=f"From {JANE}: Octopus garden", to=["staff@example.com"], reply_to=[JANE])
    outbox.enqueue(about)
    outbox.enqueue(
        a_message("List", to=["staff@example.com"], attachments=[("list.csv", f"x;{JANE.upper()}", "text/csv")])
    )
    outbox.enqueue(mail(cc=["bob@example.com"]))
    outbox.cancel(*OutboxEntry.objects.filter(recipients__address__in=["staff@example.com", "bob@example.com"]))
    # Last, because it would keep the mail above from her.
    Suppression.objects.create(address=JANE, reason=f"{JANE} complained", since=UtcNow())


class TestEverything:
    def test_no_table_attachment_log_or_index_holds_the_address_or_the_content(self, provider, log):
        everything(provider)
        assert found_in(dump()) == [JANE, "Yellow submarine", "Octopus garden", "walrus bytes"]
        log.clear()

        result = outbox.erase(JANE.upper())

        assert found_in(dump()) == []
        assert found_in("\n".join(str(vars(record)) for record in log.records).encode()) == []
        assert (result.waiting, result.sending, result.unsearched) == (0, 0, 0)
        assert (result.entries, result.cancelled, result.suppressions) == (6, 3, 1)

    def test_a_dry_run_counts_the_same_and_changes_nothing(self, provider):
        everything(provider)
        before = rows()

        expected = outbox.erase(JANE, dry_run=True)

        assert rows() == before
        assert outbox.erase(JANE) == expected

    def test_what_was_sealed_goes_too(self, provider, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
        everything(provider)

        result = outbox.erase(JANE)

        assert found_in(dump()) == []
        assert result.contents == 8
        assert not Attachment.objects.exists()

    @pytest.mark.parametrize("is_sealed", [False, True])
    def test_files_in_a_storage_go_too(self, provider, settings, log, shelf: Path, is_sealed):
        if is_sealed:
            settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
        everything(provider)
        outbox.enqueue(mail(attachments=[("a.bin", LARGE, "x/y")]))
        listed = [("jane.doe@example.com.pdf", LARGE_LIST, "x/y")]
        about = [
            outbox.enqueue(a_message("List", to=["staff@example.com"], attachments=listed)),
            outbox.enqueue(a_message("File", to=["staff@example.com"], attachments=[(listed[0][0], b"1", "x/y")])),
        ]
        outbox.cancel(*about)
        outbox.enqueue(a_message(to=["bob@example.com"], attachments=[("b.bin", OTHERS, "x/y")]))
        assert store_attachments(database="default") == 3
        if not is_sealed:
            assert found_in(contents_of(shelf)) == [JANE, "walrus bytes"]
        log.clear()
        expected = outbox.erase(JANE, dry_run=True)

        result = outbox.erase(JANE)

        assert found_in(dump() + contents_of(shelf)) == []
        assert found_in("\n".join(str(vars(record)) for record in log.records).encode()) == []
        assert (result, result.unsearched, result.files) == (expected, 0, 0)
        [left] = Attachment.objects.exclude(storage_name="")
        assert [path.name for path in shelf.rglob("*") if path.is_file()] == [Path(left.storage_name).name]

    def test_a_file_that_cannot_be_read_or_deleted_is_told(self, provider, settings, shelf: Path, monkeypatch):
        outbox.enqueue(mail(attachments=[("a.bin", LARGE, "x/y")]))
        outbox.enqueue(a_message(to=["bob@example.com"], attachments=[("b.bin", OTHERS, "x/y")]))
        store_attachments(database="default")

        def refuse(*_: object) -> None:
            raise PermissionError("no")

        for name in ("delete", "open"):
            monkeypatch.setattr(storages["shelf"], name, refuse)
        result = outbox.erase(JANE)

        assert (result.unsearched, result.files) == (1, 1)
        monkeypatch.undo()
        StoredFile.objects.update(due_at=UtcNow())  # others leave it alone for a while
        assert outbox.erase(JANE) == outbox.EraseResult()

    def test_nobody_else_loses_anything(self, provider):
        others = [
            outbox.enqueue(a_message(to=[to], body=f"For {to}", attachments=[("a.bin", to.encode(), "x/y")]))
            for to in ("mary-jane.doe@example.com", "jane.doe@example.com.au", "bob@example.com")
        ]
        before = rows()

        assert outbox.erase(JANE) == outbox.EraseResult()
        assert rows() == before
        assert all(OutboxEntry.objects.get(pk=entry.pk).message().body for entry in others)

    def test_again_it_finds_nothing(self, provider):
        everything(provider)
        outbox.erase(JANE)

        assert outbox.erase(JANE) == outbox.EraseResult()


class TestEntries:
    def test_what_was_not_sent_is_cancelled_and_never_sent(self, provider):
        entry = outbox.enqueue(mail())

        outbox.erase(JANE)
        outbox.drain()

        entry.refresh_from_db()
        assert (entry.state, entry.state_reason, entry.has_content) == ("cancelled", "erased", False)
        assert provider.accepted == []

    def test_what_was_sent_stays_as_a_fact_without_the_person(self, provider):
        entry = outbox.enqueue(mail())
        outbox.drain()

        outbox.erase(JANE)

        entry.refresh_from_db()
        assert (entry.state, entry.subject, entry.recipients.count()) == ("sent", "", 0)
        assert Attempt.objects.get(entry=entry).kind == Kind.SENT
        with pytest.raises(outbox.UnreadableEnvelope):
            entry.message()

    def test_others_still_get_what_waits_for_them_and_then_it_goes(self, provider):
        entry = outbox.enqueue(mail(cc=["Bob <bob@example.com>"], body="Octopus garden"))

        result = outbox.erase(JANE)

        assert (result.waiting, result.cancelled, result.contents) == (1, 0, 0)
        outbox.drain()
        [message] = provider.accepted
        assert (message.to, message.cc) == ([], ["Bob <bob@example.com>"])
        entry.refresh_from_db()
        assert entry.state == "sent"
        assert list(entry.recipients.values_list("address", "status")) == [("bob@example.com", "accepted")]
        assert found_in(dump()) == []

    def test_where_the_others_have_it_already_the_rest_is_cancelled(self, provider):
        entry = outbox.enqueue(mail(cc=["bob@example.com"]))
        Recipient.objects.filter(address="bob@example.com").update(status="accepted")

        outbox.erase(JANE)
        outbox.drain()

        entry.refresh_from_db()
        assert entry.state == "cancelled"
        assert provider.accepted == []

    def test_what_the_others_got_loses_its_content_and_keeps_them(self, provider):
        entry = outbox.enqueue(mail(cc=["bob@example.com"]))
        outbox.drain()

        outbox.erase(JANE)

        entry.refresh_from_db()
        assert not entry.has_content
        assert list(entry.recipients.values_list("address", flat=True)) == ["bob@example.com"]

    def test_mail_about_the_person_goes_out_first_and_loses_its_content_then(self, provider):
        outbox.enqueue(a_message(body=f"New order by {JANE}", to=["staff@example.com"]))

        assert outbox.erase(JANE).waiting == 1
        outbox.drain()

        assert len(provider.accepted) == 1
        assert found_in(dump()) == []

    def test_what_is_being_sent_is_told_and_goes_the_next_time(self, provider):
        results = []

        def erase(_: EmailMessage) -> None:
            results.append(outbox.erase(JANE))

        provider.will(erase)
        entry = outbox.send_now(mail())

        assert (results[0].sending, entry.state) == (1, "sent")
        outbox.erase(JANE)
        assert found_in(dump()) == []

    def test_what_cannot_be_read_is_told(self, provider, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
        outbox.enqueue(a_message(to=["bob@example.com"]))
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": None}

        assert outbox.erase(JANE).unsearched == 1

    def test_an_attachment_that_others_need_stays(self, provider):
        outbox.enqueue(mail())
        outbox.enqueue(mail("bob@example.com"))

        result = outbox.erase(JANE)

        assert (result.attachments, Attachment.objects.count(), EntryContent.objects.count()) == (0, 1, 1)

    def test_what_is_no_address_is_refused(self):
        with pytest.raises(outbox.InvalidOption, match="not one address"):
            outbox.erase("jane, bob")


class TestSuppression:
    def test_it_goes_on_under_a_pseudonym(self):
        Suppression.objects.create(address=JANE, reason="complained", since=UtcNow())

        outbox.erase(JANE)

        assert Suppression.objects.of(f"Jane <{JANE.upper()}>").get().reason == "complained"
        assert not Suppression.objects.of("bob@example.com").exists()

    def test_it_goes_on_when_the_secret_key_has_been_rotated(self, settings):
        Suppression.objects.create(address=JANE, reason="complained", since=UtcNow())
        outbox.erase(JANE)

        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]

        assert Suppression.objects.of(JANE).exists()

    def test_a_second_one_takes_the_place_of_the_first(self):
        for _ in range(2):
            Suppression.objects.create(address=JANE, reason="complained", since=UtcNow())
            outbox.erase(JANE)

        assert Suppression.objects.count() == 1


def test_a_key_that_two_entries_had_in_two_spellings_stays_unique(provider):
    outbox.enqueue(mail(), idempotency_key=f"a:{JANE}")
    outbox.enqueue(mail(), idempotency_key=f"a:{JANE.upper()}")

    outbox.erase(JANE)

    keys = list(OutboxEntry.objects.values_list("idempotency_key", flat=True))
    assert len(set(keys)) == 2
    assert found_in(str(keys).encode()) == []
