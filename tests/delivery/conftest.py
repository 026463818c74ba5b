"""What the tests of delivery share: mailers that point at a fault server, parcels, lines that are closed in the end."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives

from mail_outbox.conf import MailerOptions
from mail_outbox.delivery import Line, Parcel
from tests.delivery.esps import OPTIONS
from tests.faults.smtp_server import SMTPFaultServer

SMTP = "django.core.mail.backends.smtp.EmailBackend"
MESSAGE_ID = "<6f1c.0@outbox.example>"
BIG = ("x" * 70 + "\n") * 200_000
"""More than the buffers between a client and a server hold."""
DATE = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)

SetMailers = Callable[[dict[str, Any]], None]
OpenLine = Callable[..., Line]


@pytest.fixture
def set_mailers(settings: Any, monkeypatch: pytest.MonkeyPatch) -> SetMailers:
    """Return what replaces the mailers for one test, with real ones: no test runner's locmem."""

    def set_mailers(mailers: dict[str, Any]) -> None:
        if hasattr(mail, "mailers"):
            settings.MAILERS = mailers
        else:
            settings.MAIL_OUTBOX = {"MAILERS": mailers}
            monkeypatch.delattr(mail, "outbox", raising=False)

    return set_mailers


@pytest.fixture
def open_line(set_mailers: SetMailers) -> Iterator[OpenLine]:
    """Return what makes a line to the mailer "m"; it is closed after the test."""
    lines: list[Line] = []

    def open_line(backend: str, *, line_options: dict[str, Any] | None = None, **options: Any) -> Line:
        set_mailers({"m": {"BACKEND": backend, "OPTIONS": options}})
        lines.append(Line("m", MailerOptions(**line_options or {})))
        return lines[-1]

    yield open_line
    for line in lines:
        line.close()


@pytest.fixture
def smtp_line(open_line: OpenLine) -> OpenLine:
    """Return what makes a line to an SMTP server."""

    def smtp_line(server: Any, *, timeout: float = 20.0, **options: Any) -> Line:
        return open_line(SMTP, host=server.host, port=server.port, timeout=timeout, **options)

    return smtp_line


@pytest.fixture(params=[False, True], ids=["one by one", "in one piece"])
def pipelining(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Have every SMTP server take MAIL, RCPT and DATA one by one, or announce that it takes them in one piece."""
    monkeypatch.setattr(SMTPFaultServer, "is_pipelining", request.param)
    return bool(request.param)


@pytest.fixture
def esp_line(open_line: OpenLine, monkeypatch: pytest.MonkeyPatch) -> OpenLine:
    """Return what makes a line to a provider that the fault server plays."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def esp_line(esp: str, server: Any, *, timeout: float = 20.0, **options: Any) -> Line:
        backend = f"anymail.backends.{esp}.EmailBackend"
        return open_line(backend, **(OPTIONS[esp] | {"api_url": server.url, "timeout": timeout} | options))

    return esp_line


def a_message(*to: str, **fields: Any) -> EmailMessage:
    """Return a small message."""
    values: dict[str, Any] = {"subject": "Hello", "body": "Hello\n.\nworld\n", "from_email": "shop@example.com"}
    return EmailMultiAlternatives(to=list(to) or ["ann@example.com"], **(values | fields))


def a_parcel(message: EmailMessage | None = None, *, seconds: float = 20.0, **fields: Any) -> Parcel:
    """Return a parcel that has so many seconds to be delivered in."""
    values: dict[str, Any] = {"seed": "6f1c", "message_id": MESSAGE_ID, "date": DATE}
    return Parcel(message=message or a_message(), deadline=time.monotonic() + seconds, **(values | fields))
