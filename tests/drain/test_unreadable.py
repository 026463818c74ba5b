"""What cannot be read, for whatever reason: an entry ends alone, and trouble with a whole claim stops no other mailer."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.mail import EmailMessage
from django.db import connection

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.drain import Engine
from mail_outbox.models import Attempt, EntryContent, MailerState, OutboxEntry
from mail_outbox.vault import get_vault
from tests.support import a_message

pytestmark = pytest.mark.django_db(transaction=True)

HUGE = "9" * 5000
"""A number in JSON that Python refuses to read: it has more than 4,300 digits."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("default")
    yield engine
    engine.stop()


def write(entry: OutboxEntry, table: str, column: str, text: str) -> None:
    """Write what Django itself would not."""
    key = "entry_id" if table == "entrycontent" else "id"
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE mail_outbox_{table} SET {column} = %s WHERE {key} = %s", [text, entry.pk])  # noqa: S608


def fate(entry: OutboxEntry) -> tuple[str, str, int]:
    row = OutboxEntry.objects.filter(pk=entry.pk)
    return row.values_list("state", "state_reason", "attempts").get()


def logged(caplog: pytest.LogCaptureFixture, message: str) -> list[Any]:
    return [record for record in caplog.records if record.message == message]


class TestAnEntry:
    def test_a_payload_that_python_does_not_take_ends_its_entry_alone(self, providers, caplog):
        others = outbox.enqueue_many(a_message("fine") for _ in range(3))
        poison = outbox.enqueue(a_message(), priority=outbox.HIGH)
        write(poison, "entrycontent", "payload", f'{{"version": {HUGE}}}')
        outbox.enqueue(a_message("other"), using="bulk")

        result = outbox.drain()

        assert fate(poison) == (State.HELD, "unreadable: reading it failed (ValueError). The log says where.", 1)
        assert providers["default"].subjects == ["fine"] * len(others)
        assert providers["bulk"].subjects == ["other"]
        assert (result.sent, result.held) == (4, 1)
        [record] = logged(caplog, "entry cannot be read")
        assert (record.entry, record.mailer, record.error) == (poison.pk, "default", "ValueError")
        assert not Attempt.objects.filter(entry=poison).exists()

    def test_a_row_that_python_does_not_take_ends_its_entry_alone(self, provider):
        fine, poison = outbox.enqueue_many(a_message() for _ in range(2))
        write(poison, "outboxentry", "tags", f"[{HUGE}]")

        outbox.drain()

        assert fate(poison) == (State.HELD, "unreadable: reading it failed (ValueError). The log says where.", 1)
        assert fate(fine)[0] == State.SENT

    def test_what_a_key_has_sealed_that_is_no_content_ends_its_entry_alone(self, provider, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
        fine, poison = outbox.enqueue_many(a_message() for _ in range(2))
        EntryContent.objects.filter(entry=poison).update(payload=get_vault().seal_json(["something", "else"]))

        outbox.drain()

        assert fate(poison) == (State.HELD, "unreadable: reading it failed (TypeError). The log says where.", 1)
        assert fate(fine)[0] == State.SENT

    def test_a_name_of_an_attachment_that_no_database_takes_ends_its_entry_alone(self, provider):
        if connection.vendor != "sqlite":
            pytest.skip("the others let no half of a surrogate pair into JSON")
        fine, poison = outbox.enqueue_many(a_message() for _ in range(2))
        write(poison, "entrycontent", "payload", json.dumps({"version": 1, "blob": "\ud800"}))

        outbox.drain()

        assert fate(poison)[0] == State.HELD
        assert fate(fine)[0] == State.SENT

    def test_a_message_class_that_breaks_ends_its_entry_alone_and_no_sender(self, provider, settings, caplog, engine):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "MESSAGE_CLASSES": [f"{__name__}.Broken"]}
        poison = outbox.enqueue(Broken("Hello", "Text", "shop@example.com", ["jane@example.com"]))
        fine = outbox.enqueue(a_message())
        Broken.error = SystemExit("jane@example.com has left")
        try:
            engine.run()
        finally:
            Broken.error = None

        assert fate(poison) == (State.HELD, "unreadable: reading it failed (SystemExit). The log says where.", 1)
        assert fate(fine)[0] == State.SENT
        [record] = logged(caplog, "entry cannot be read")
        assert (record.entry, record.error) == (poison.pk, "SystemExit")
        assert f"{__name__.rpartition('.')[2]}.py" in record.stack
        assert "jane" not in str(vars(record))

    def test_what_is_in_the_way_of_all_message_classes_is_the_mailers_trouble(
        self, provider, settings, engine, tmp_path
    ):
        (tmp_path / "breaks_when_imported.py").write_text("raise ValueError('jane@example.com')")
        sys.path.insert(0, str(tmp_path))
        entry = outbox.enqueue(a_message())
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "MESSAGE_CLASSES": ["breaks_when_imported.Message"]}
        try:
            result = engine.run()
        finally:
            sys.path.remove(str(tmp_path))

        assert (result.mailer, fate(entry)) == (1, (State.QUEUED, "", 0))
        assert MailerState.objects.get().broken_reason.endswith("importing them failed (ValueError)")


class Broken(EmailMessage):
    """A message of a project's own, whose class breaks when a message is read."""

    error: BaseException | None = None

    def __new__(cls, *args: Any, **keywords: Any) -> "Broken":
        if cls.error is not None:
            raise cls.error
        return super().__new__(cls)
