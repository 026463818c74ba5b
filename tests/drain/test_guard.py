"""The guard, from enqueue to what is written: nobody is said to have got what went to another."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, OutboxEntry
from tests.fakes import REFUSED, TRY_LATER
from tests.faults.smtp_server import SMTPFaultServer
from tests.support import a_message, age, mailers

pytestmark = pytest.mark.django_db

EVERYBODY = {"to": ["jane@example.com"], "cc": ["bob@example.com"], "bcc": ["boss@example.com"]}


@contextmanager
def smtp(server: SMTPFaultServer, **guard: Any) -> Iterator[None]:
    """Let the mailer `default` be this server, behind this guard."""
    options = {"host": server.host, "port": server.port, "timeout": 5}
    mailer = {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}
    with mailers({"default": mailer}, **guard):
        yield


def rows(entry: OutboxEntry) -> dict[str, tuple[str, str]]:
    """Return what became of each recipient, with its code."""
    return {row.address: (row.status, row.code) for row in entry.recipients.all()}


def drain_again(entry: OutboxEntry) -> None:
    """Let the time until the next attempt pass, and make it."""
    age(entry, due_at=timedelta(hours=-5))
    outbox.drain()
    entry.refresh_from_db()


class TestEverywhere:
    def test_what_was_enqueued_before_the_setting_is_guarded_too(self, provider, settings):
        entry = outbox.enqueue(a_message(**EVERYBODY))
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "REDIRECT_TO": "dev@staging.example"}

        outbox.drain()

        [sent] = provider.accepted
        assert (sent.to, sent.cc, sent.bcc) == (["dev@staging.example"], [], [])
        assert entry.message().to == ["jane@example.com"]

    def test_what_is_sent_at_once_is_guarded_too(self, provider, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "REDIRECT_TO": "dev@staging.example"}

        entry = outbox.send_now(a_message(**EVERYBODY))

        assert [sent.to for sent in provider.accepted] == [["dev@staging.example"]]
        assert set(rows(entry).values()) == {("suppressed", "redirected")}

    def test_no_interceptor_can_undo_it(self, provider, settings):
        def undo(message: Any, entry: OutboxEntry) -> None:
            message.to, message.bcc = ["real@customer.example"], ["other@customer.example"]
            message.extra_headers["To"] = "real@customer.example"

        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "REDIRECT_TO": "dev@staging.example", "INTERCEPTORS": [undo]}
        outbox.enqueue(a_message())

        outbox.drain()

        [sent] = provider.accepted
        assert sent.recipients() == ["dev@staging.example"]
        assert sent.message()["To"] == "dev@staging.example"


class TestWhatIsWritten:
    def guard(self, settings: Any, **keys: Any) -> None:
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, **keys}

    def test_who_was_redirected_is_not_said_to_have_accepted(self, provider, settings):
        self.guard(settings, REDIRECT_TO="dev@staging.example", ALLOW_TO=["bob@example.com"])
        entry = outbox.enqueue(a_message(**EVERYBODY))

        outbox.drain()

        entry.refresh_from_db()
        assert entry.state == State.SENT
        assert rows(entry) == {
            "jane@example.com": ("suppressed", "redirected"),
            "bob@example.com": ("accepted", ""),
            "boss@example.com": ("suppressed", "redirected"),
        }
        assert Attempt.objects.get().text == "Redirected by MAIL_OUTBOX['REDIRECT_TO']."

    def test_who_was_left_out_is_not_said_to_have_accepted(self, provider, settings):
        self.guard(settings, ALLOW_TO=["bob@example.com"])
        entry = outbox.enqueue(a_message(**EVERYBODY))

        outbox.drain()

        assert rows(entry) == {
            "jane@example.com": ("suppressed", "not allowed"),
            "bob@example.com": ("accepted", ""),
            "boss@example.com": ("suppressed", "not allowed"),
        }

    def test_where_nobody_is_left_the_entry_is_cancelled_and_can_be_sent_later(self, provider, settings):
        self.guard(settings, ALLOW_TO=[])
        entry = outbox.enqueue(a_message(**EVERYBODY))
        outbox.drain()

        entry.refresh_from_db()
        assert entry.state == State.CANCELLED
        assert "MAIL_OUTBOX['ALLOW_TO']" in entry.state_reason
        assert set(rows(entry).values()) == {("open", "")}

        self.guard(settings, ALLOW_TO=["*@example.com"])
        outbox.retry(entry)
        outbox.drain()

        assert set(rows(entry).values()) == {("accepted", "")}

    def test_what_failed_has_refused_nobody_who_was_not_asked(self, provider, settings):
        provider.will(REFUSED)
        self.guard(settings, REDIRECT_TO="dev@staging.example", ALLOW_TO=["bob@example.com"])
        entry = outbox.enqueue(a_message(**EVERYBODY))

        outbox.drain()

        entry.refresh_from_db()
        assert entry.state == State.FAILED
        assert {address: status for address, (status, _) in rows(entry).items()} == {
            "jane@example.com": "open",
            "bob@example.com": "refused",
            "boss@example.com": "open",
        }

    def test_a_retry_of_what_failed_reaches_the_stand_in(self, provider, settings):
        provider.will(REFUSED)
        self.guard(settings, REDIRECT_TO="dev@staging.example")
        entry = outbox.enqueue(a_message(**EVERYBODY))
        outbox.drain()

        outbox.retry(entry)
        outbox.drain()

        entry.refresh_from_db()
        assert entry.state == State.SENT
        assert [sent.to for sent in provider.accepted] == [["dev@staging.example"]]

    def test_a_transient_failure_leaves_everybody_open(self, provider, settings):
        provider.will(TRY_LATER)
        self.guard(settings, REDIRECT_TO="dev@staging.example")
        entry = outbox.enqueue(a_message(**EVERYBODY))

        outbox.drain()

        assert set(rows(entry).values()) == {("open", "")}


class TestAfterAPartial:
    """Some were refused for now; only they, or whoever stands in for them, are written to again."""

    def test_an_allowed_one_is_tried_again_and_the_stand_in_is_not(self):
        with (
            SMTPFaultServer({"rcpt": {"bob@example.com": ["451 4.2.0 later"]}}) as server,
            smtp(server, REDIRECT_TO="dev@staging.example", ALLOW_TO=["bob@example.com"]),
        ):
            entry = outbox.enqueue(a_message(**EVERYBODY))
            outbox.drain()
            between = rows(entry)
            drain_again(entry)

        assert between["bob@example.com"] == ("open", "451")
        assert between["jane@example.com"] == ("suppressed", "redirected")
        assert [sent.recipients for sent in server.journal] == [("dev@staging.example",), ("bob@example.com",)]
        assert (entry.state, rows(entry)["bob@example.com"][0]) == (State.SENT, "accepted")

    def test_a_stand_in_is_tried_again_and_the_allowed_one_is_not(self):
        with (
            SMTPFaultServer({"rcpt": {"dev@staging.example": ["451 4.2.0 later"]}}) as server,
            smtp(server, REDIRECT_TO="dev@staging.example", ALLOW_TO=["bob@example.com"]),
        ):
            entry = outbox.enqueue(a_message(**EVERYBODY))
            outbox.drain()
            between = rows(entry)
            drain_again(entry)

        assert between["bob@example.com"] == ("accepted", "")
        assert between["jane@example.com"] == ("open", "redirected")
        assert [sent.recipients for sent in server.journal] == [("bob@example.com",), ("dev@staging.example",)]
        assert (entry.state, rows(entry)["jane@example.com"]) == (State.SENT, ("suppressed", "redirected"))

    def test_a_stand_in_that_is_refused_for_good_is_not_tried_again(self):
        rcpt = {"dev@staging.example": "550 5.1.1 unknown", "bob@example.com": ["451 4.2.0 later"]}
        with (
            SMTPFaultServer({"rcpt": rcpt}) as server,
            smtp(server, REDIRECT_TO="dev@staging.example", ALLOW_TO=["bob@example.com", "boss@example.com"]),
        ):
            entry = outbox.enqueue(a_message(**EVERYBODY))
            outbox.drain()
            drain_again(entry)

        assert [sent.recipients for sent in server.journal] == [("boss@example.com",), ("bob@example.com",)]
        assert rows(entry) == {
            "jane@example.com": ("suppressed", "redirected"),
            "bob@example.com": ("accepted", "451"),
            "boss@example.com": ("accepted", ""),
        }

    def test_the_copy_of_a_stand_in_is_nobodys_success(self):
        with (
            SMTPFaultServer({"rcpt": {"bob@example.com": ["451 4.2.0 later", "550 5.1.1 unknown"]}}) as server,
            smtp(server, REDIRECT_TO="dev@staging.example", ALLOW_TO=["bob@example.com"]),
        ):
            entry = outbox.enqueue(a_message(**EVERYBODY))
            outbox.drain()
            drain_again(entry)

        assert [sent.recipients for sent in server.journal] == [("dev@staging.example",)]
        assert (entry.state, rows(entry)["bob@example.com"]) == (State.FAILED, ("refused", "550"))

    def test_a_guard_that_comes_in_between_is_obeyed(self):
        rcpt = {"bob@example.com": ["451 4.2.0 later"]}
        with SMTPFaultServer({"rcpt": rcpt}) as server, smtp(server):
            entry = outbox.enqueue(a_message(**EVERYBODY))
            outbox.drain()
            with override_settings(MAIL_OUTBOX={**settings.MAIL_OUTBOX, "REDIRECT_TO": "dev@staging.example"}):
                drain_again(entry)

        assert [set(sent.recipients) for sent in server.journal] == [
            {"jane@example.com", "boss@example.com"},
            {"dev@staging.example"},
        ]
        assert rows(entry) == {
            "jane@example.com": ("accepted", ""),
            "bob@example.com": ("suppressed", "redirected"),
            "boss@example.com": ("accepted", ""),
        }
