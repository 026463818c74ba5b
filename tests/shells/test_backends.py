"""The drop-in keeps Django's contract, and the sink fails as often as it is told to."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django
import pytest
from django.contrib.auth.forms import PasswordResetForm
from django.contrib.auth.models import User
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, EmailMultiAlternatives, mail_admins, send_mail, send_mass_mail
from django.core.mail.message import BadHeaderError
from django.db import OperationalError, connection, transaction
from pytest_django import Settings

from mail_outbox import outbox
from mail_outbox.backends import OutboxBackend, SinkBackend
from mail_outbox.models import OutboxEntry
from tests.shells.conftest import LOCMEM, OUTBOX, SINK, Configure


def message(**changes: Any) -> EmailMessage:
    """Make an ordinary message."""
    return EmailMessage(
        **{"subject": "Hello", "body": "Text", "from_email": "a@x.example", "to": ["b@y.example"]} | changes
    )


class Unstorable:
    """Something that no database keeps."""


@contextmanager
def broken_database() -> Iterator[None]:
    """Let every INSERT fail."""

    def fail(execute: Callable[..., Any], sql: str, params: Any, *more: Any) -> Any:
        if "INSERT INTO" in sql:
            raise OperationalError("disk full")
        return execute(sql, params, *more)

    with connection.execute_wrapper(fail):
        yield


@pytest.mark.django_db
@pytest.mark.usefixtures("outbox_backend")
class TestOutboxBackend:
    def test_mail_is_enqueued_and_not_sent(self, mailoutbox: list[EmailMessage]):
        send_mail("Hello", "Text", "a@x.example", ["b@y.example"])

        entry = OutboxEntry.objects.get()
        assert (entry.state, entry.using, entry.subject) == ("queued", "real", "Hello")
        assert mailoutbox == []

    def test_a_drain_delivers_what_the_drop_in_enqueued(self, mailoutbox: list[EmailMessage]):
        send_mail("Hello", "Text", "a@x.example", ["b@y.example"], html_message="<p>Text</p>")

        outbox.drain()

        assert [(sent.subject, sent.to) for sent in mailoutbox] == [("Hello", ["b@y.example"])]
        assert OutboxEntry.objects.get().state == "sent"

    @pytest.mark.parametrize(
        ("subject", "recipients", "accepted"),
        [
            pytest.param("Hello", ["b@y.example"], 1, id="good"),
            pytest.param("Hello", ["not an address"], 1, id="bad address"),
            pytest.param("x" * 2000, ["b@y.example"], 1, id="long subject"),
            pytest.param("Hello", [], 0, id="no recipients"),
        ],
    )
    def test_the_number_returned_is_the_number_accepted(self, subject: str, recipients: list[str], accepted: int):
        assert send_mail(subject, "Text", "a@x.example", recipients) == accepted
        assert OutboxEntry.objects.count() == accepted

    def test_no_messages_are_none_accepted(self):
        assert OutboxBackend().send_messages([]) == 0

    def test_messages_without_recipients_are_passed_over(self):
        assert OutboxBackend().send_messages([message(), message(to=[]), message(to=[], bcc=["c@z.example"])]) == 2

    def test_mass_mail_counts_every_message(self):
        mails = [("Hello", "Text", "a@x.example", [f"b{number}@y.example"]) for number in range(3)]

        assert send_mass_mail(mails) == 3
        assert OutboxEntry.objects.count() == 3

    def test_a_message_with_alternatives_and_attachments_comes_back_as_it_was(self):
        sent = EmailMultiAlternatives("Hello", "Text", "a@x.example", ["b@y.example"], headers={"X-Shop": "7"})
        sent.attach_alternative("<p>Text</p>", "text/html")
        sent.attach("invoice.csv", "a,b", "text/csv")

        assert sent.send() == 1

        kept = OutboxEntry.objects.get().message()
        assert (kept.extra_headers, len(kept.attachments)) == ({"X-Shop": "7"}, 1)
        assert kept.alternatives == sent.alternatives

    def test_a_rollback_takes_the_mail_with_it(self):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            send_mail("Hello", "Text", "a@x.example", ["b@y.example"])
            raise ZeroDivisionError

        assert not OutboxEntry.objects.exists()

    @pytest.mark.parametrize("options", [{}, {"fail_silently": True}])
    @pytest.mark.parametrize(
        "changes",
        [{"subject": "a\nBcc: x@y.example"}, {"to": ["b@y.example\nBcc: x@y.example"]}, {"headers": {"X": "a\nb"}}],
    )
    def test_a_header_with_a_newline_raises_as_in_django(self, changes: dict[str, Any], options: dict[str, bool]):
        with pytest.raises(BadHeaderError) as caught:
            OutboxBackend(**options).send_messages([message(**changes)])

        assert isinstance(caught.value, outbox.InvalidMessage)
        assert not OutboxEntry.objects.exists()

    def test_what_only_we_refuse_is_no_bad_header(self):
        with pytest.raises(outbox.InvalidMessage) as caught:
            OutboxBackend().send_messages([message(body="a\0b")])

        assert django.VERSION >= (6, 0) or not isinstance(caught.value, BadHeaderError)

    def test_the_option_using_names_the_mailer(self):
        OutboxBackend(using="bulk").send_messages([message()])

        assert OutboxEntry.objects.get().using == "bulk"

    def test_an_unknown_mailer_is_said_aloud(self):
        with pytest.raises(outbox.UnknownMailer, match="Did you mean 'bulk'"):
            OutboxBackend(using="bluk").send_messages([message()])

    def test_silence_swallows_our_errors_and_logs_them_without_an_address(self, caplog: pytest.LogCaptureFixture):
        bad = message()
        bad.metadata = {"thing": Unstorable()}

        assert OutboxBackend(fail_silently=True).send_messages([bad, message()]) == 1

        assert [(record.message, record.error) for record in caplog.records] == [
            ("message not accepted into the outbox", "UnserializableMessage")
        ]
        assert OutboxEntry.objects.count() == 1

    def test_without_silence_our_errors_raise(self):
        bad = message()
        bad.metadata = {"thing": Unstorable()}

        with pytest.raises(outbox.UnserializableMessage, match="metadata"):
            OutboxBackend().send_messages([bad])

    def test_silence_does_not_hide_a_database_error_inside_a_transaction(self):
        with pytest.raises(OperationalError), transaction.atomic(), broken_database():
            OutboxBackend(fail_silently=True).send_messages([message()])

    @pytest.mark.django_db(transaction=True)
    def test_silence_swallows_a_database_error_outside_a_transaction(self):
        with broken_database():
            accepted = OutboxBackend(fail_silently=True).send_messages([message()])

        assert accepted == 0

    @pytest.mark.django_db(transaction=True)
    def test_without_silence_a_database_error_raises(self):
        with pytest.raises(OperationalError), broken_database():
            OutboxBackend().send_messages([message()])

    @pytest.mark.urls("tests.shells.urls")
    def test_a_password_reset_goes_through_the_outbox(self, mailoutbox: list[EmailMessage]):
        User.objects.create_user("ann", "ann@y.example", "secret")
        form = PasswordResetForm({"email": "ann@y.example"})
        assert form.is_valid()

        form.save(domain_override="shop.example", from_email="shop@x.example")
        assert mailoutbox == []
        outbox.drain()

        assert [sent.to for sent in mailoutbox] == [["ann@y.example"]]
        assert "shop.example/accounts/reset/" in mailoutbox[0].body

    def test_mail_to_the_admins_goes_through_the_outbox(self, settings: Settings, mailoutbox: list[EmailMessage]):
        settings.ADMINS = ["ops@x.example"] if django.VERSION >= (6, 0) else [("Ops", "ops@x.example")]

        mail_admins("Disk full", "Text")
        assert OutboxEntry.objects.get().using == "real"
        outbox.drain()

        assert [sent.to for sent in mailoutbox] == [["ops@x.example"]]

    @pytest.mark.skipif(not hasattr(mail, "mailers"), reason="Django has mailers since 6.1")
    def test_a_mailer_of_djangos_own_is_a_drop_in_too(self, configure: Configure):
        configure({"default": LOCMEM, "later": {**OUTBOX, "OPTIONS": {"using": "default"}}})

        assert mail.mailers["later"].send_messages([message()]) == 1
        assert message().send(using="later") == 1

        assert OutboxEntry.objects.filter(using="default").count() == 2

    @pytest.mark.skipif(not hasattr(mail, "mailers"), reason="Django reports unknown options since 6.1")
    def test_an_unknown_option_is_reported(self, configure: Configure):
        configure({"default": LOCMEM, "later": {**OUTBOX, "OPTIONS": {"usnig": "default"}}})

        with pytest.raises(mail.InvalidMailer, match="usnig"):
            mail.mailers["later"]


class TestSinkBackend:
    def test_everything_is_accepted(self, mailoutbox: list[EmailMessage]):
        assert SinkBackend().send_messages([message(), message(), message(to=[])]) == 2
        assert mailoutbox == []

    def test_latency_is_really_waited_for(self):
        started = time.monotonic()

        SinkBackend(latency=0.02).send_messages([message()])

        assert time.monotonic() - started >= 0.02

    def test_about_the_share_asked_for_fails(self):
        sink = SinkBackend(chaos=0.3, seed=1, fail_silently=True)

        accepted = sink.send_messages([message()] * 1000)

        assert 600 < accepted < 800

    def test_a_new_connection_goes_on_where_the_last_one_failed(self):
        errors = Counter(str(failure_of(SinkBackend(chaos=1, seed=2))) for _ in range(9))

        assert sorted(errors.values()) == [3, 3, 3]

    @pytest.mark.parametrize("options", [{"latency": -1}, {"chaos": 1.5}, {"chaos": -0.1}])
    def test_an_option_out_of_range_is_a_configuration_error(self, options: dict[str, float]):
        with pytest.raises(ImproperlyConfigured):
            SinkBackend(**options)

    @pytest.mark.django_db
    @pytest.mark.usefixtures("no_test_outbox")
    def test_its_errors_are_transient_ambiguous_and_permanent_for_a_worker(self, configure: Configure):
        configure({"default": {**SINK, "OPTIONS": {"chaos": 1, "seed": 3}}})
        outbox.enqueue_many([message() for _ in range(6)])

        result = outbox.drain()

        assert (result.transient, result.ambiguous, result.permanent) == (2, 2, 2)
        assert Counter(OutboxEntry.objects.values_list("state", flat=True)) == {"scheduled": 4, "failed": 2}

    @pytest.mark.django_db
    @pytest.mark.usefixtures("no_test_outbox")
    def test_without_chaos_a_worker_sends_everything(self, configure: Configure):
        configure({"default": SINK})
        outbox.enqueue_many([message() for _ in range(20)])

        assert outbox.drain().sent == 20


def failure_of(sink: SinkBackend) -> Exception:
    """Return what the sink raises."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        sink.send_messages([message()])
    return caught.value
