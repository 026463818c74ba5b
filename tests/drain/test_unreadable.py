"""What cannot be read, for whatever reason: an entry ends alone, and trouble with a whole claim stops no other mailer."""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from django.core.mail import EmailMessage
from django.db import OperationalError, ProgrammingError, connection
from django.db.models import F

from mail_outbox import outbox, transitions
from mail_outbox.core.states import State
from mail_outbox.drain import Engine
from mail_outbox.models import Attempt, EntryContent, MailerState, OutboxEntry, UtcNow
from mail_outbox.vault import get_vault
from tests.fakes import BAD_LOGIN
from tests.support import a_message, scripted

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

    def test_a_row_that_python_does_not_take_is_rescued_like_the_others(self, provider):
        fine, poison = outbox.enqueue_many(a_message() for _ in range(2))
        transitions.claim("default", 2, claim_id=uuid4(), worker="w", lease=timedelta(0), database="default")
        write(poison, "outboxentry", "tags", f"[{HUGE}]")

        result = outbox.drain()

        assert result.rescued == 2
        assert {fate(fine)[0], fate(poison)[0]} == {State.SCHEDULED}
        OutboxEntry.objects.update(due_at=F("first_due_at"))
        outbox.drain()
        assert (fate(fine)[0], fate(poison)[0]) == (State.SENT, State.HELD)

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


class Strange:
    """Lets what reads the claims of one mailer fail, as what a project wraps around its driver may."""

    def __init__(self, alias: str, error: Exception) -> None:
        self.alias, self.error = alias, error
        self.vain = 0
        self._is_theirs = False

    def __call__(self, execute: Any, sql: str, params: Any, *rest: Any) -> Any:
        if "may_wait" in sql:
            self._is_theirs = self.alias in params
        if self._is_theirs and "claim_id" in sql and sql.startswith("SELECT"):
            self.vain += 1
            raise self.error
        return execute(sql, params, *rest)


STRANGE = pytest.mark.parametrize(
    "error",
    [RuntimeError("jane"), ProgrammingError("jane"), OperationalError("jane, statement timeout"), MemoryError()],
    ids=repr,
)


class TestAClaim:
    @STRANGE
    def test_it_goes_back_and_the_other_mailers_go_on(self, providers, engine, caplog, error):
        outbox.enqueue_many((a_message() for _ in range(20)), using="bulk", on_ambiguous="hold")
        outbox.enqueue_many(a_message() for _ in range(20))

        with connection.execute_wrapper(strange := Strange("bulk", error)):
            results = [engine.run(slice_length=timedelta(seconds=5)) for _ in range(2)]

        assert [result.sent for result in results] == [20, 0]
        assert not any(result.is_work_left for result in results), "somebody would be woken in vain"
        assert set(OutboxEntry.objects.filter(using="bulk").values_list("state", "attempts")) == {(State.QUEUED, 0)}
        assert strange.vain <= 3, "tried over and over"
        [record] = logged(caplog, "claim cannot be read")
        assert (record.mailer, record.error) == ("bulk", type(error).__name__)
        assert "jane" not in str({**vars(record), "stack": ""})

    @STRANGE
    def test_it_is_delivered_when_that_is_over(self, providers, engine, monkeypatch, error):
        monkeypatch.setattr("mail_outbox.drain.senders.REST", 0.0)
        outbox.enqueue_many((a_message() for _ in range(20)), using="bulk", on_ambiguous="hold")
        # A slice may end in the middle of the trouble, and says so.
        with connection.execute_wrapper(Strange("bulk", error)), suppress(OperationalError):
            engine.run(slice_length=timedelta(seconds=0.2))

        result = engine.run()

        assert result.sent == 20
        assert set(OutboxEntry.objects.values_list("state", "attempts")) == {(State.SENT, 1)}

    def test_a_slot_in_which_nothing_left_is_given_back(self):
        options = {"default": {"rate": "10/h"}}
        with scripted("default", MAILER_OPTIONS=options), connection.execute_wrapper(Strange("default", ValueError())):
            outbox.enqueue(a_message())
            engine = Engine("default")
            engine.run(slice_length=timedelta(seconds=0.1))
            engine.run(slice_length=timedelta(seconds=0.1))
            engine.stop()

            state = MailerState.objects.annotate(now=UtcNow()).get()
            assert state.next_slot_at <= state.now

    def test_a_probe_that_never_was_is_given_back(self, provider, engine):
        provider.will(BAD_LOGIN)
        outbox.enqueue(a_message())
        engine.run()
        MailerState.objects.update(broken_until="2020-01-01T00:00:00Z")
        with connection.execute_wrapper(Strange("default", ValueError())):
            engine.run()

        state = MailerState.objects.annotate(now=UtcNow()).get()
        assert state.broken_until <= state.now

    @STRANGE
    def test_who_sends_at_once_is_told_and_the_entry_waits_for_a_worker(self, provider, error):
        with connection.execute_wrapper(strange := Strange("default", error)):
            strange._is_theirs = True
            with pytest.raises(type(error)):
                outbox.send_now(a_message(), on_ambiguous="hold")

        assert set(OutboxEntry.objects.values_list("state", "attempts")) == {(State.QUEUED, 0)}
        assert outbox.drain().sent == 1


class Broken(EmailMessage):
    """A message of a project's own, whose class breaks when a message is read."""

    error: BaseException | None = None

    def __new__(cls, *args: Any, **keywords: Any) -> "Broken":
        if cls.error is not None:
            raise cls.error
        return super().__new__(cls)
