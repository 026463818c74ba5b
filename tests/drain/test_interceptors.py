"""The hook before delivery: it may change a message or stop it, and its mistakes cost no mail."""

import logging
from typing import Any

import pytest
from anymail.exceptions import AnymailCancelSend
from anymail.signals import post_send, pre_send
from django.core import mail
from django.core.mail import EmailMessage

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, MailerState, OutboxEntry, Suppression
from tests.delivery.esps import MAILGUN_OK, OPTIONS
from tests.fakes import BAD_LOGIN, TRY_LATER, Provider
from tests.faults.http_server import Answer, HTTPFaultServer
from tests.support import a_message, mailers

pytestmark = pytest.mark.django_db


def shout(message: EmailMessage, entry: OutboxEntry) -> None:
    """Change the message in place."""
    message.subject = message.subject.upper()


def broken(message: EmailMessage, entry: OutboxEntry) -> None:
    """Fail, quoting an address."""
    raise LookupError("no customer jane@example.com")


not_callable = "a text"


@pytest.fixture
def intercept(provider: Provider, settings: Any) -> Any:
    """Return what sets the interceptors."""

    def intercept(*interceptors: Any) -> None:
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "INTERCEPTORS": list(interceptors)}

    return intercept


def settled(entry: OutboxEntry) -> OutboxEntry:
    """Drain, and return the entry as it stands then."""
    outbox.drain()
    entry.refresh_from_db()
    return entry


class TestChanging:
    def test_it_may_change_the_message_and_the_stored_one_stays(self, intercept, provider):
        intercept(f"{__name__}.shout")
        entry = settled(outbox.enqueue(a_message("Hello")))

        assert provider.subjects == ["HELLO"]
        assert entry.message().subject == "Hello"

    def test_it_may_return_another_message(self, intercept, provider):
        ids = []
        provider.will(lambda message: ids.append(message.message()["Message-ID"]))
        intercept(lambda message, entry: a_message(f"Instead of {entry.subject}"))
        entry = settled(outbox.enqueue(a_message("Hello")))

        assert provider.subjects == ["Instead of Hello"]
        assert ids == [entry.message_id]

    def test_they_are_called_in_order_each_with_what_the_last_one_left(self, intercept, provider):
        intercept(lambda message, entry: a_message(message.subject + "!"), shout)
        settled(outbox.enqueue(a_message("Hello")))

        assert provider.subjects == ["HELLO!"]

    def test_each_attempt_begins_with_the_stored_message(self, intercept, provider):
        seen = []
        provider.will(TRY_LATER)
        intercept(lambda message, entry: seen.append(message.subject), shout)
        entry = settled(outbox.enqueue(a_message("Hello")))
        OutboxEntry.objects.update(state=State.QUEUED)

        settled(entry)

        assert seen == ["Hello", "Hello"]

    def test_a_second_attempt_is_byte_for_byte_the_first(self, intercept, provider):
        built = []

        def look(message: EmailMessage) -> None:
            built.append(message.message().as_bytes())
            if len(built) == 1:
                raise TRY_LATER

        provider.will_always(look)
        intercept(shout, lambda message, entry: message.attach("terms.txt", "Terms", "text/plain"))
        entry = settled(outbox.enqueue(a_message("Hello")))
        OutboxEntry.objects.update(state=State.QUEUED)
        settled(entry)

        assert len(built) == 2
        assert built[0] == built[1]

    def test_what_it_does_to_the_entry_stays_with_it(self, intercept, provider):
        def meddle(message: EmailMessage, entry: OutboxEntry) -> None:
            entry.pk, entry.using, entry.state = 0, "nowhere", "sent"

        intercept(meddle, meddle)
        entry = settled(outbox.enqueue(a_message()))

        assert (entry.state, Attempt.objects.get().entry_id) == (State.SENT, entry.pk)


@pytest.mark.django_db(transaction=True)
class TestAddingSomebody:
    """The list of suppressed addresses was asked before: it holds for those the entry was written with."""

    @pytest.fixture(autouse=True)
    def written_to(self, provider) -> list[list[str]]:
        """Suppress two, and return who is written to."""
        for address in ("jane@example.com", "seller@example.com"):
            outbox.suppress(address, reason="asked us")
        seen: list[list[str]] = []
        provider.will_always(lambda message: seen.append(message.recipients()))
        return seen

    def test_it_brings_nobody_back_who_was_left_out(self, intercept, written_to):
        intercept(lambda message, entry: message.to.append("jane@example.com"))
        settled(outbox.enqueue(a_message(to=["bob@example.com", "jane@example.com"])))

        assert written_to == [["bob@example.com"]]

    def test_whom_it_adds_is_not_looked_up(self, intercept, written_to):
        intercept(lambda message, entry: message.bcc.append("seller@example.com"))
        settled(outbox.enqueue(a_message(to=["bob@example.com"])))

        assert written_to == [["bob@example.com", "seller@example.com"]]

    @pytest.mark.parametrize(("is_ignored", "recipients"), [(False, 1), (True, 2)])
    def test_it_can_ask_the_list_for_itself(self, intercept, written_to, is_ignored, recipients):
        def copy_to_the_seller(message: EmailMessage, entry: OutboxEntry) -> None:
            seller = "Seller <SELLER@example.com>"
            if entry.ignore_suppression or not Suppression.objects.of(seller).in_force().exists():
                message.bcc.append(seller)

        intercept(copy_to_the_seller)
        settled(outbox.enqueue(a_message(to=["bob@example.com"]), ignore_suppression=is_ignored))

        assert [len(addresses) for addresses in written_to] == [recipients]


class TestStopping:
    def test_a_reason_ends_the_entry_as_cancelled(self, intercept, provider):
        def stop(message: EmailMessage, entry: OutboxEntry) -> None:
            raise outbox.CancelDelivery("bob@example.com has left\nthe club")

        intercept(stop, broken)
        entry = settled(outbox.enqueue(a_message()))

        assert (entry.state, entry.state_reason) == (State.CANCELLED, "***@example.com has left the club")
        assert (entry.outcome_kind, entry.outcome_code, entry.attempts) == ("cancelled", "interceptor", 0)
        assert provider.accepted == []

    def test_without_a_reason_the_interceptor_is_the_reason(self, intercept):
        def stop(message: EmailMessage, entry: OutboxEntry) -> None:
            raise outbox.CancelDelivery

        intercept(stop)

        assert "stop" in settled(outbox.enqueue(a_message())).state_reason

    def test_a_probe_that_is_stopped_proves_nothing_of_the_mailer(self, intercept, provider):
        def stop(message: EmailMessage, entry: OutboxEntry) -> None:
            if message.subject == "stopped":
                raise outbox.CancelDelivery("no")

        provider.will(BAD_LOGIN)
        intercept(stop)
        for subject in ("first", "stopped"):
            outbox.enqueue(a_message(subject))
        outbox.drain(limit=1)
        MailerState.objects.update(broken_until="2020-01-01T00:00:00Z")
        OutboxEntry.objects.filter(subject="first").update(state=State.HELD)

        outbox.drain()

        assert OutboxEntry.objects.get(subject="stopped").state == State.CANCELLED
        assert MailerState.objects.get().strikes == 1


class TestMistakes:
    def test_an_exception_is_a_failure_for_now_and_says_no_more_than_its_type(self, intercept, provider, caplog):
        intercept(f"{__name__}.broken")
        entry = settled(outbox.enqueue(a_message()))

        assert (entry.state, entry.outcome_kind, entry.outcome_code) == (State.SCHEDULED, "transient", "interceptor")
        assert entry.outcome_text == f"{__name__}.broken: LookupError"
        assert provider.accepted == []
        [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert "jane@" not in str(vars(record))
        assert record.at.startswith(__file__)

    def test_even_an_exit_leaves_the_thread_alive(self, intercept, provider):
        def leave(message: EmailMessage, entry: OutboxEntry) -> None:
            raise SystemExit

        intercept(leave)

        assert settled(outbox.enqueue(a_message())).outcome_text.endswith(": SystemExit")

    def test_a_message_whose_recipients_nobody_can_tell_has_not_gone_out(self, intercept, provider):
        class Shy(EmailMessage):
            def __getattribute__(self, name: str) -> Any:
                if name == "cc":
                    raise RuntimeError("no")
                return super().__getattribute__(name)

        intercept(lambda message, entry: Shy("x", "Text", to=message.to))
        entry = outbox.enqueue(a_message(cc=["bob@example.com"]), on_ambiguous="hold")
        outbox.suppress("bob@example.com")

        assert settled(entry).state == State.HELD
        assert entry.state_reason.startswith("unreadable: ")
        assert provider.accepted == []
        assert not Attempt.objects.exists()

    def test_only_a_message_or_nothing_may_be_returned(self, intercept, provider):
        intercept(lambda message, entry: True)
        entry = settled(outbox.enqueue(a_message()))

        assert (entry.state, entry.outcome_code) == (State.SCHEDULED, "interceptor")
        assert "it returned a bool" in entry.outcome_text

    @pytest.mark.parametrize(
        "path", ["no.such.module", f"{__name__}.no_such_name", f"{__name__}.not_callable", "nothing"]
    )
    def test_one_that_is_not_there_stops_the_mailer_and_loses_nothing(self, intercept, provider, path):
        intercept(path)
        entry = settled(outbox.enqueue(a_message()))

        assert (entry.state, entry.attempts, provider.accepted) == (State.QUEUED, 0, [])
        state = MailerState.objects.get()
        assert state.strikes == 1
        assert state.broken_reason.startswith("mailer configuration: MAIL_OUTBOX['INTERCEPTORS']: ")


class TestAnymailsSignals:
    """Anymail's own hooks work behind the outbox as they do without it."""

    @pytest.fixture
    def receivers(self) -> Any:
        """Return what connects receivers for one test."""
        connected = []

        def connect(signal: Any, receiver: Any) -> None:
            signal.connect(receiver, weak=False)
            connected.append((signal, receiver))

        yield connect
        for signal, receiver in connected:
            signal.disconnect(receiver)

    def test_pre_send_and_post_send_are_called_once_per_attempt(self, receivers):
        calls: list[Any] = []

        def before(sender: Any, message: EmailMessage, esp_name: str, **_: Any) -> None:
            calls.append(("pre_send", esp_name, message.subject))
            message.subject = "changed"

        def after(sender: Any, message: EmailMessage, status: Any, **_: Any) -> None:
            calls.append(("post_send", status.message_id, message.subject))

        receivers(pre_send, before)
        receivers(post_send, after)
        with HTTPFaultServer([Answer(500, {"message": "oops"})], default=MAILGUN_OK) as server:
            backend = "anymail.backends.mailgun.EmailBackend"
            options = {**OPTIONS["mailgun"], "api_url": server.url}
            with mailers({"default": {"BACKEND": backend, "OPTIONS": options}}):
                entry = outbox.enqueue(a_message("Hello"))
                outbox.drain()
                OutboxEntry.objects.update(state=State.QUEUED)
                outbox.drain()

        entry.refresh_from_db()
        assert entry.state == State.SENT
        assert calls == [
            ("pre_send", "Mailgun", "Hello"),
            ("pre_send", "Mailgun", "Hello"),
            ("post_send", "<mg-1@example.com>", "changed"),
        ]
        assert [b"changed" in request.body for request in server.requests] == [True, True]

    def test_a_receiver_may_cancel(self, receivers, monkeypatch):
        def cancel(**_: Any) -> None:
            raise AnymailCancelSend

        receivers(pre_send, cancel)
        monkeypatch.setattr(mail, "outbox", [], raising=False)
        with mailers({"default": {"BACKEND": "anymail.backends.test.EmailBackend"}}):
            entry = outbox.enqueue(a_message())
            outbox.drain()

        entry.refresh_from_db()
        assert (entry.state, entry.state_reason) == (State.CANCELLED, "cancelled by the mailer")
