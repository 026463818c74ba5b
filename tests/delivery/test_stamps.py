"""Every attempt looks like the first, and what is ours shows only where the mailer can take it."""

from email.message import Message
from email.mime.base import MIMEBase
from typing import Any

import django
import pytest
from anymail.message import AnymailMessage
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives

from mail_outbox.core.outcomes import Kind
from tests.delivery.conftest import MESSAGE_ID, OpenLine, a_message, a_parcel
from tests.faults.smtp_server import SMTPFaultServer

LOCMEM = "django.core.mail.backends.locmem.EmailBackend"


def a_rich_message() -> EmailMultiAlternatives:
    """Return a message with multiparts in a multipart, and a message attached to it."""
    inner = EmailMultiAlternatives("Inner", "text", "bob@example.com", ["cy@example.com"])
    inner.attach_alternative("<p>inner</p>", "text/html")
    message = EmailMultiAlternatives("Grüße", "Text\n.\n", "Shop <shop@example.com>", ["Ann <ann@example.com>"])
    message.attach_alternative("<p>Häuser</p>", "text/html")
    message.attach("data.bin", bytes(range(256)), "application/octet-stream")
    message.attach("note.txt", "plain ä", "text/plain")
    inner.extra_headers = {"Date": "Fri, 20 Nov 2026 10:00:00 +0000", "Message-ID": "<inner@example.com>"}
    message.attach(None, inner, "message/rfc822")
    return message


def test_a_second_attempt_is_byte_for_byte_the_first(smtp_line: OpenLine):
    with SMTPFaultServer({"dot": ["accept-then-drop"]}) as server:
        line = smtp_line(server)
        kinds = [line.deliver(a_parcel(a_rich_message())).kind for _ in range(2)]

    assert kinds == [Kind.AMBIGUOUS, Kind.SENT]
    first, second = server.journal
    assert first.data == second.data
    assert first.data.count(b"boundary=") == 3


def test_another_entry_has_other_boundaries(smtp_line: OpenLine):
    with SMTPFaultServer() as server:
        line = smtp_line(server)
        for seed in ("6f1c", "0a2b"):
            line.deliver(a_parcel(a_rich_message(), seed=seed))

    assert server.journal[0].data != server.journal[1].data


def test_a_boundary_of_somebody_elses_making_is_kept(smtp_line: OpenLine):
    message = a_message()
    signed = (
        b'Content-Type: multipart/signed; boundary="theirs"\r\n\r\n'
        b"--theirs\r\nContent-Type: text/plain\r\n\r\nx\r\n--theirs--\r\n"
    )
    message.attach(None, signed, "message/rfc822")
    with SMTPFaultServer() as server:
        smtp_line(server).deliver(a_parcel(message))

    assert b'boundary="theirs"' in server.journal[0].data


def test_date_and_message_id_are_those_of_enqueue(smtp_line: OpenLine):
    with SMTPFaultServer() as server:
        smtp_line(server).deliver(a_parcel())

    assert server.journal[0].header("Date") == "Fri, 20 Nov 2026 12:30:00 +0000"
    assert server.journal[0].message_id == MESSAGE_ID
    assert server.journal[0].data.lower().count(b"message-id:") == 1


def test_what_the_caller_gave_stays(smtp_line: OpenLine):
    headers = {"message-id": "<mine@example.com>", "DATE": "Mon, 05 Jan 2026 08:00:00 +0000"}
    with SMTPFaultServer() as server:
        smtp_line(server).deliver(a_parcel(a_message(headers=headers)))

    assert server.journal[0].message_id == "<mine@example.com>"
    assert server.journal[0].header("Date") == "Mon, 05 Jan 2026 08:00:00 +0000"
    assert server.journal[0].data.lower().count(b"\r\ndate:") == 1


def test_a_subclass_sees_our_headers_when_it_signs(smtp_line: OpenLine):
    seen: list[dict[str, str]] = []

    class Signed(EmailMessage):
        def message(self, **options: Any) -> Message:
            seen.append(dict(self.extra_headers))
            return super().message(**options)

    with SMTPFaultServer():
        pass
    with SMTPFaultServer() as server:
        message = Signed("Hello", "Hello", "shop@example.com", ["ann@example.com"])
        smtp_line(server).deliver(a_parcel(message))

    assert seen == [{"Date": "Fri, 20 Nov 2026 12:30:00 +0000", "Message-ID": MESSAGE_ID}]
    assert message.extra_headers == {}


def test_in_djangos_test_outbox_the_message_is_the_callers(open_line: OpenLine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mail, "outbox", [], raising=False)
    line = open_line(LOCMEM)
    monkeypatch.setattr(mail, "outbox", [], raising=False)

    line.deliver(a_parcel(a_message(headers={"X-Shop": "1"})))

    sent = mail.outbox[0]
    assert sent.extra_headers == {"X-Shop": "1"}
    sent.subject = "Changed"
    assert sent.message()["Subject"] == "Changed"
    assert sent.message()["Message-ID"] == MESSAGE_ID


@pytest.mark.skipif(django.VERSION >= (6, 0), reason="Django 6.0 deprecated MIMEBase")
def test_a_mime_attachment_of_django_52_is_frozen_too(smtp_line: OpenLine):
    def message() -> EmailMessage:
        part = MIMEBase("multipart", "related")
        part.attach(MIMEBase("text", "plain"))
        return a_message(attachments=[part])

    with SMTPFaultServer() as server:
        line = smtp_line(server)
        for _ in range(2):
            line.deliver(a_parcel(message()))

    assert server.journal[0].data == server.journal[1].data


class TestTagsAndMetadata:
    """Enqueue's tags and metadata join the message's own."""

    def deliver(self, open_line: OpenLine, message: EmailMessage, **fields: Any) -> EmailMessage:
        open_line(LOCMEM).deliver(a_parcel(message, **fields))
        return message

    def test_they_are_merged(self, open_line: OpenLine):
        message = AnymailMessage(to=["ann@example.com"], tags=["a", "b"], metadata={"x": 1, "y": 1})

        sent = self.deliver(open_line, message, tags=("b", "c"), metadata={"y": 2})

        assert sent.tags == ["a", "b", "c"]
        assert sent.metadata == {"x": 1, "y": 2}

    @pytest.mark.parametrize("message", [AnymailMessage(to=["ann@example.com"]), a_message()])
    def test_they_are_set_where_there_are_none(self, open_line: OpenLine, message: EmailMessage):
        sent = self.deliver(open_line, message, tags=("c",), metadata={"y": 2})

        assert (sent.tags, sent.metadata) == (["c"], {"y": 2})

    def test_nothing_given_is_nothing_set(self, open_line: OpenLine):
        assert not hasattr(self.deliver(open_line, a_message()), "tags")
