"""Mailers as they come: foreign, misconfigured, and those of Django's test runs."""

import smtplib
import socket
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.test import override_settings

from mail_outbox.conf import MailerOptions
from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery import Line, carriers
from tests.delivery import backends
from tests.delivery.conftest import OpenLine, SetMailers, a_parcel
from tests.faults.smtp_server import SMTPFaultServer

HERE = "tests.delivery.backends"
FOREIGN = f"{HERE}.ForeignBackend"


@pytest.fixture(autouse=True)
def _forget_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.ForeignBackend, "sent", [])
    monkeypatch.setattr(backends.StrangeConnectionBackend, "closed", [])


class TestForeignMailers:
    """Of a mailer that we cannot look into, only proofs count."""

    @pytest.mark.parametrize(
        ("result", "kind", "code"),
        [
            (1, Kind.SENT, ""),
            (7, Kind.SENT, ""),
            (True, Kind.SENT, ""),
            (0, Kind.CANCELLED, "cancelled by the mailer"),
            (False, Kind.CANCELLED, "cancelled by the mailer"),
            ("yes", Kind.AMBIGUOUS, "unknown"),
            (RuntimeError("?"), Kind.AMBIGUOUS, "unknown"),
            (OSError("?"), Kind.AMBIGUOUS, "network"),
            (TimeoutError("?"), Kind.AMBIGUOUS, "timeout"),
            (ValueError("?"), Kind.AMBIGUOUS, "unknown"),
            (smtplib.SMTPServerDisconnected("?"), Kind.AMBIGUOUS, "disconnected"),
            (ConnectionRefusedError("?"), Kind.MAILER, "connect"),
            (socket.gaierror("?"), Kind.MAILER, "dns"),
            (ssl.SSLCertVerificationError("?"), Kind.MAILER, "tls"),
            (ImproperlyConfigured("?"), Kind.MAILER, "configuration"),
            (smtplib.SMTPConnectError(421, b"busy"), Kind.THROTTLED, "421"),
            (smtplib.SMTPAuthenticationError(535, b"no"), Kind.MAILER, "535"),
            (smtplib.SMTPSenderRefused(550, b"no", "a@x.example"), Kind.PERMANENT, "550"),
            (smtplib.SMTPRecipientsRefused({"a@x.example": (450, b"later")}), Kind.TRANSIENT, "450"),
            (smtplib.SMTPDataError(554, b"no"), Kind.PERMANENT, "554"),
            (smtplib.SMTPDataError(-1, b"?"), Kind.AMBIGUOUS, "network"),
        ],
    )
    def test_what_it_returns_or_raises(
        self, open_line: OpenLine, monkeypatch: pytest.MonkeyPatch, result: Any, kind: Kind, code: str
    ):
        monkeypatch.setattr(backends.ForeignBackend, "result", result)

        outcome = open_line(FOREIGN).deliver(a_parcel())

        assert (outcome.kind, outcome.code) == (kind, code)

    def test_one_that_returns_nothing_is_believed_and_warned_about_once(
        self, open_line: OpenLine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(carriers, "_warned_about", set())
        line = open_line(f"{HERE}.SilentBackend")

        kinds = [line.deliver(a_parcel()).kind for _ in range(3)]

        assert kinds == [Kind.SENT] * 3
        assert [record.backend for record in caplog.records] == [f"{HERE}.SilentBackend"]

    def test_a_message_that_cannot_be_built_was_not_sent(self, open_line: OpenLine):
        class Unbuildable(EmailMessage):
            def message(self, **options: Any) -> Any:
                raise LookupError("no such font")

        outcome = open_line(FOREIGN).deliver(a_parcel(Unbuildable("Hello", "Hello", to=["ann@example.com"])))

        assert (outcome.kind, outcome.code) == (Kind.PERMANENT, "build")

    def test_what_stops_the_process_passes_through(self, open_line: OpenLine, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(backends.ForeignBackend, "result", SystemExit(1))
        line = open_line(FOREIGN)

        with pytest.raises(SystemExit):
            line.deliver(a_parcel())

        assert not line.is_open

    def test_a_mistake_of_ours_is_ambiguous_and_logged_without_what_it_says(
        self, open_line: OpenLine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        def raise_error(*args: object) -> None:
            raise RuntimeError("ann@example.com")

        monkeypatch.setattr("mail_outbox.delivery.carriers.Carrier.returned", raise_error)

        outcome = open_line(FOREIGN).deliver(a_parcel())

        assert (outcome.kind, outcome.text) == (Kind.AMBIGUOUS, "RuntimeError: ***@example.com")
        assert [record.error for record in caplog.records] == ["RuntimeError"]
        assert "ann" not in caplog.text

    @pytest.mark.parametrize(
        ("backend", "options"),
        [
            ("django.core.mail.backends.locmem.EmailBackend", {}),
            ("django.core.mail.backends.dummy.EmailBackend", {}),
            ("django.core.mail.backends.console.EmailBackend", {}),
            ("django.core.mail.backends.filebased.EmailBackend", {"file_path": "mails"}),
            ("anymail.backends.test.EmailBackend", {}),
        ],
    )
    def test_djangos_own_and_anymails_test_backend_send(
        self, open_line: OpenLine, tmp_path: Path, backend: str, options: dict[str, str]
    ):
        options = {name: str(tmp_path / value) for name, value in options.items()}
        line = open_line(backend, **options)

        kinds = [line.deliver(a_parcel()).kind for _ in range(2)]

        assert kinds == [Kind.SENT, Kind.SENT]
        if options:
            line.close()
            assert b"Subject: Hello" in next((tmp_path / "mails").iterdir()).read_bytes()


class TestConfiguration:
    """A mailer that cannot be made is the mailer's trouble, and says why."""

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"BACKEND": "no.such.Backend"}, "no"),
            ({"BACKEND": "anymail.backends.postmark.EmailBackend", "OPTIONS": {}}, ""),
            ({"BACKEND": f"{HERE}.LoopBackend"}, "the outbox itself"),
            (
                {
                    "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
                    "OPTIONS": {"use_tls": True, "use_ssl": True},
                },
                "",
            ),
        ],
    )
    def test_mistakes(self, set_mailers: SetMailers, config: dict[str, Any], said: str):
        set_mailers({"m": config})
        line = Line("m", MailerOptions())

        outcome = line.deliver(a_parcel())

        assert (outcome.kind, outcome.code) == (Kind.MAILER, "configuration")
        assert said in outcome.text
        assert not line.is_open

    def test_an_unknown_alias_is_answered_with_the_known_ones(self, set_mailers: SetMailers):
        set_mailers({"bulk": {"BACKEND": FOREIGN}})

        outcome = Line("bluk", MailerOptions()).deliver(a_parcel())

        assert (outcome.kind, outcome.code) == (Kind.MAILER, "configuration")
        assert "Did you mean 'bulk'?" in outcome.text

    @pytest.mark.skipif(hasattr(mail, "mailers"), reason="6.1 replaces the mailers of its test runs itself")
    def test_in_a_test_run_every_mailer_is_locmem(self, settings: Any):
        settings.MAIL_OUTBOX = {"MAILERS": {"m": {"BACKEND": FOREIGN}}}

        outcome = Line("m", MailerOptions()).deliver(a_parcel())

        assert outcome.kind is Kind.SENT
        assert [message.subject for message in mail.outbox] == ["Hello"]

    @pytest.mark.skipif(hasattr(mail, "mailers"), reason="6.1 replaces the mailers of its test runs itself")
    def test_an_outbox_alone_makes_no_test_run(self, set_mailers: SetMailers, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delattr("django.test.utils._TestState.saved_data")
        set_mailers({"m": {"BACKEND": FOREIGN}})
        mail.outbox = []

        Line("m", MailerOptions()).deliver(a_parcel())

        assert len(backends.ForeignBackend.sent) == 1

    @pytest.fixture
    def old_settings(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Configure mail as before 6.1; there the setting itself is deprecated, and what reads it must not be."""
        if hasattr(mail, "mailers"):
            del settings.MAILERS
        overridden = override_settings(EMAIL_BACKEND=FOREIGN, MAIL_OUTBOX={})
        with warnings.catch_warnings(action="ignore"):
            overridden.enable()
        monkeypatch.delattr(mail, "outbox", raising=False)
        yield
        with warnings.catch_warnings(action="ignore"):
            overridden.disable()

    @pytest.mark.usefixtures("old_settings")
    def test_without_any_mailers_the_old_settings_make_the_default(self):
        outcome = Line("default", MailerOptions()).deliver(a_parcel())

        assert outcome.kind is Kind.SENT
        assert len(backends.ForeignBackend.sent) == 1

    @pytest.mark.skipif(not hasattr(mail, "mailers"), reason="before 6.1 this is the usual way")
    def test_our_own_mailers_work_where_django_could_have_them_too(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ):
        del settings.MAILERS
        monkeypatch.delattr(mail, "outbox", raising=False)
        with SMTPFaultServer() as server:
            options = {"host": server.host, "port": server.port}
            settings.MAIL_OUTBOX = {"MAILERS": {"m": {"OPTIONS": options}}}
            line = Line("m", MailerOptions())
            outcome = line.deliver(a_parcel())
            line.close()

        assert outcome.kind is Kind.SENT
