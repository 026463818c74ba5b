"""A mail as it was or will be sent."""

from email import policy
from email.encoders import encode_base64
from email.message import MIMEPart
from email.mime.base import MIMEBase
from typing import Any

import django
import pytest
from anymail.message import AnymailMessage
from django.core.mail import EmailMessage, EmailMultiAlternatives

from mail_outbox import outbox
from mail_outbox.core.envelope import VERSION
from mail_outbox.models import EntryContent
from mail_outbox.outbox.preview import preview, safe_name
from tests.support import a_message

pytestmark = pytest.mark.django_db


def html_message(html: str, **keywords) -> EmailMultiAlternatives:
    message = EmailMultiAlternatives("Hello", "Text", "shop@example.com", ["jane@example.com"], **keywords)
    message.attach_alternative(html, "text/html")
    return message


def as_sent(message: EmailMessage) -> bytes:
    """Return what Django's SMTP backend sends."""
    if django.VERSION >= (6, 0):
        return message.message(policy=policy.SMTP).as_bytes()
    return message.message().as_bytes(linesep="\r\n")


def inline(maintype: str, subtype: str, data: bytes) -> Any:
    """Return a part with the Content-ID `logo`, of the kind this Django takes."""
    if django.VERSION >= (6, 0):
        part = MIMEPart()
        part.set_content(data, maintype=maintype, subtype=subtype, disposition="inline", cid="<logo>")
        return part
    old = MIMEBase(maintype, subtype)
    old.set_payload(data)
    encode_base64(old)
    old["Content-ID"] = "<logo>"
    return old


def test_the_source_is_what_the_mailer_is_given(provider):
    given = []
    provider.will(lambda message: given.append(as_sent(message)))
    entry = outbox.enqueue(html_message("<p>Hi</p>", bcc=["archive@example.com"]))
    before = preview(entry).source

    outbox.drain()

    assert [before] == [preview(entry).source] == given
    assert f"Message-ID: {entry.message_id}".encode() in before
    assert b"archive@example.com" not in before


def test_text_html_headers_and_attachments_are_told_apart():
    message = html_message("<p>Hi</p>", headers={"X-Shop": "Grüße"})
    message.attach("bill.pdf", b"%PDF", "application/pdf")

    shown = preview(outbox.enqueue(message))

    assert (shown.text.strip(), shown.html.strip()) == ("Text", "<p>Hi</p>")
    assert dict(shown.headers)["X-Shop"] == "Grüße"
    assert [(each.name, each.content_type, each.data) for each in shown.attachments] == [
        ("bill.pdf", "application/pdf", b"%PDF")
    ]


def test_a_mail_of_html_alone_has_no_text():
    message = EmailMessage("Hello", "<p>Hi</p>", "shop@example.com", ["jane@example.com"])
    message.content_subtype = "html"

    shown = preview(outbox.enqueue(message))

    assert (shown.text, shown.html.strip()) == (None, "<p>Hi</p>")


def test_the_document_carries_its_own_images_and_its_links_are_dead():
    message = html_message('<html><head><title>x</title></head><img src="cid:logo"><img src="cid:other"></html>')
    message.attach(inline("image", "png", b"\x89PNG"))

    document = preview(outbox.enqueue(message)).document()

    assert '<head><base target="_blank"><title>' in document
    assert 'src="data:image/png;base64,iVBORw=="' in document
    assert 'src="cid:other"' in document


def test_a_head_ends_before_the_next_tag():
    # Looked for any further, many heads without an end would take quadratic time.
    document = preview(outbox.enqueue(html_message("<head <head <p>Hi</p>"))).document()

    assert document.startswith('<base target="_blank"><head <head <p>')


def test_only_images_become_part_of_the_document():
    message = html_message('<img src="cid:logo">')
    message.attach(inline("application", "xhtml", b"<script>alert(1)</script>"))

    assert "cid:logo" in preview(outbox.enqueue(message)).document()


def test_what_only_the_provider_gets_is_told():
    message = AnymailMessage("Hello", "Text", "shop@example.com", ["jane@example.com"])
    message.template_id = "welcome"
    message.merge_global_data = {"name": "Jane"}

    shown = preview(outbox.enqueue(message))

    assert shown.for_provider == {"template_id": "welcome", "merge_global_data": {"name": "Jane"}}


def test_what_cannot_be_read_says_so():
    entry = outbox.enqueue(a_message())
    EntryContent.objects.update(payload={"version": VERSION + 1})
    entry = type(entry).objects.get()

    with pytest.raises(outbox.UnreadableEnvelope):
        preview(entry)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("a\r\nX-Evil: 1.txt", "aX-Evil: 1.txt"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("x" * 4096, "x" * 100),
    ],
)
def test_the_name_of_an_attachment_is_made_harmless(name, shown):
    assert safe_name(name) == shown
