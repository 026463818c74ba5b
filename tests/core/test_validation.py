import re
from datetime import UTC, datetime
from email.message import MIMEPart
from email.mime.base import MIMEBase
from typing import Any

import pytest
from anymail.message import AnymailMessage
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.utils.functional import lazystr

from mail_outbox.core.errors import InvalidMessage
from mail_outbox.core.validation import Limits, check_message


def new_message(**attributes: Any) -> EmailMultiAlternatives:
    """Return a good message, but for the attributes given, which are assigned as a caller might."""
    message = EmailMultiAlternatives("Hi", "Text", "a@x.example", ["b@x.example"])
    for name, value in attributes.items():
        setattr(message, name, value)
    return message


def with_header(name: Any, value: Any) -> EmailMessage:
    return new_message(extra_headers={name: value})


def with_attachment(*attachment: Any) -> EmailMessage:
    return new_message(attachments=[attachment])


def with_part(part: Any) -> EmailMessage:
    return new_message(attachments=[part])


def legacy_part(**headers: str) -> MIMEBase:
    part = MIMEBase("image", "png")
    for name, value in headers.items():
        part[name.replace("_", "-")] = value
    return part


def modern_part() -> MIMEPart:
    part = MIMEPart()
    part.set_content(b"x", maintype="image", subtype="png", filename="Käse " * 30, cid="<c@x.example>")
    return part


GOOD = [
    pytest.param(new_message(), id="plain"),
    pytest.param(new_message(to=[], bcc=["b@x.example"]), id="only bcc"),
    pytest.param(new_message(to=['"Doe, John" <j@x.example>']), id="comma in a display name"),
    pytest.param(new_message(to=["jo@bücher.example"]), id="IDN"),
    pytest.param(
        new_message(to=[lazystr("b@x.example")], subject=lazystr("Hi"), body=lazystr("Text")), id="lazy texts"
    ),
    pytest.param(new_message(to=[f"b{n}@x.example" for n in range(50)]), id="fifty recipients"),
    pytest.param(new_message(reply_to=["a@x.example", "Bo <b@x.example>"]), id="two reply-tos"),
    pytest.param(new_message(reply_to=None), id="no reply-to, not even the default"),
    pytest.param(new_message(subject="", body=""), id="empty"),
    pytest.param(new_message(body="\r.\r\n.\r\n{{ 7|add:1 }} {% include 'x' %} \u2028 ✉"), id="anything in a body"),
    pytest.param(with_header("Message-ID", "<1@x.example>"), id="Message-ID"),
    pytest.param(with_header("Date", datetime(2026, 11, 20, tzinfo=UTC)), id="Date as a datetime"),
    pytest.param(with_header("List-Unsubscribe", "<https://x.example/u>"), id="List-Unsubscribe"),
    pytest.param(with_header("Reply-To", "a@x.example, b@x.example"), id="Reply-To"),
    pytest.param(with_header("X-Count", 7), id="a number"),
    pytest.param(with_header("X-Lazy", lazystr("lazy")), id="lazy header"),
    pytest.param(with_header("X-" + "a" * 74, "a" * 10_000), id="as long as a header may be"),
    pytest.param(new_message(alternatives=[("<p>", "text/html"), (b"\0", "application/x-y+z")]), id="alternatives"),
    pytest.param(with_attachment("a.ics", "BEGIN:VCALENDAR\r\n", "text/calendar; method=REQUEST"), id="parameter"),
    pytest.param(with_attachment(None, b"\0\xff", "application/pdf"), id="bytes without a name"),
    pytest.param(with_attachment("a.eml", EmailMessage(from_email="a@x.example"), "message/rfc822"), id="message"),
    pytest.param(with_part(modern_part()), id="MIMEPart"),
    pytest.param(with_part(legacy_part(Content_ID="<c@x.example>", X_Folded="a\r\n b\n\tc")), id="MIMEBase"),
    pytest.param(
        AnymailMessage(from_email="a@x.example", to=["b@x.example"], envelope_sender="bounce@x.example"), id="Anymail"
    ),
]


@pytest.mark.parametrize("message", GOOD)
def test_a_good_message_passes(message: EmailMessage):
    check_message(message)
    check_message(message, strict=False)


@pytest.mark.parametrize("name", ["body", "subject", "from_email"])
def test_nothing_is_needed_that_a_template_of_the_provider_fills_in(name: str):
    message = new_message(template_id="welcome", **{name: None})

    check_message(message)

    del message.template_id
    with pytest.raises(InvalidMessage, match=name):
        check_message(message)


# What Django raises for, and what no database can store.
ALWAYS_BAD = [
    pytest.param(new_message(subject="Hi\nBcc: all@x.example"), "subject has a newline", id="newline in subject"),
    pytest.param(new_message(subject="Hi\rthere"), "subject has a newline", id="carriage return in subject"),
    pytest.param(new_message(subject=lazystr("Hi\nthere")), "subject has a newline", id="newline in lazy subject"),
    pytest.param(new_message(from_email="a@x.example\n"), "from_email has a newline", id="newline in from_email"),
    pytest.param(new_message(to=["b@x.example", "c\n@x.example"]), "to[1] has a newline", id="newline in to"),
    pytest.param(new_message(cc=["c\r@x.example"]), "cc[0] has a newline", id="newline in cc"),
    pytest.param(new_message(bcc=["c\n@x.example"]), "bcc[0] has a newline", id="newline in bcc"),
    pytest.param(new_message(reply_to=["c\n@x.example"]), "reply_to[0] has a newline", id="newline in reply_to"),
    pytest.param(with_header("X-A", "a\r\nBcc: all@x.example"), "Header 'X-A' has a newline", id="newline in a header"),
    pytest.param(
        with_header("X-A\r\nBcc", "a"), "The name of header 'X-A\\r\\nBcc' has a newline", id="newline in a name"
    ),
    pytest.param(with_header("X-A", lazystr("a\nb")), "Header 'X-A' has a newline", id="newline in a lazy header"),
    pytest.param(
        with_attachment("a\n.pdf", b"x", "a/b"),
        "The filename of attachments[0] has a newline",
        id="newline in a filename",
    ),
    pytest.param(
        with_attachment("a.pdf", b"x", "a/b\nX: y"),
        "The mimetype of attachments[0] has a newline",
        id="newline in a type",
    ),
    pytest.param(
        with_part(legacy_part(X_A="a\nBcc: b")), "attachments[0] has a broken header 'X-A'", id="newline in a part"
    ),
    pytest.param(
        with_part(legacy_part(**{"X A": "a"})), "attachments[0] has a broken header 'X A'", id="bad name in a part"
    ),
    pytest.param(
        with_attachment("a.eml", new_message(subject="a\nb"), "message/rfc822"),
        "In attachments[0]: subject has a newline",
        id="newline in an attached message",
    ),
    pytest.param(new_message(subject="a\0b"), "subject contains a NUL", id="NUL in subject"),
    pytest.param(new_message(body="a\0b"), "body contains a NUL", id="NUL in body"),
    pytest.param(new_message(to=["b\0@x.example"]), "to[0] contains a NUL", id="NUL in an address"),
    pytest.param(with_header("X-A", "\0"), "Header 'X-A' contains a NUL", id="NUL in a header"),
    pytest.param(
        with_attachment("\0", b"", "a/b"), "The filename of attachments[0] contains a NUL", id="NUL in a filename"
    ),
    pytest.param(with_attachment("a", "\0", "a/b"), "attachments[0] contains a NUL", id="NUL in an attached text"),
    pytest.param(
        new_message(alternatives=[("a\0b", "text/html")]), "alternatives[0] contains a NUL", id="NUL in an alternative"
    ),
    pytest.param(new_message(body="a\ud800b"), "body contains half of a surrogate pair", id="surrogate in body"),
    pytest.param(new_message(subject="\udfff"), "subject contains half of a surrogate pair", id="surrogate in subject"),
    pytest.param(with_header("X-A", "\ud800"), "Header 'X-A' contains half of", id="surrogate in a header"),
]

# What only strict checks refuse: Django would let it pass, or the provider would judge.
STRICTLY_BAD = [
    pytest.param(new_message(to=[]), "no recipient", id="no recipient"),
    pytest.param(new_message(to="b@x.example"), "to is of class str", id="bare to"),
    pytest.param(new_message(cc="b@x.example"), "cc is of class str", id="bare cc"),
    pytest.param(new_message(bcc="b@x.example"), "bcc is of class str", id="bare bcc"),
    pytest.param(new_message(reply_to="b@x.example"), "reply_to is of class str", id="bare reply_to"),
    pytest.param(new_message(to=("b@x.example",)), "to is of class tuple", id="tuple"),
    pytest.param(new_message(to=None), "to is of class NoneType", id="to is None"),
    pytest.param(new_message(to=[None]), "to[0] is of class NoneType", id="None as an address"),
    pytest.param(
        new_message(to=["a@x.example, b@x.example"]), "to[0]: 'a@x.example, b@x.example' is not one", id="two in one"
    ),
    pytest.param(new_message(to=["not an address"]), "to[0]: 'not an address' is not one", id="no address"),
    pytest.param(new_message(to=["b@x.example", ""]), "to[1]: '' is not one", id="empty address"),
    pytest.param(
        new_message(to=["jö@x.example"]), "to[0]: Address 'jö@x.example' has non-ASCII", id="non-ASCII local part"
    ),
    pytest.param(new_message(cc=["Doe, John <j@x.example>"]), "cc[0]: 'Doe, John", id="comma without quotes"),
    pytest.param(new_message(from_email="a@x.example, b@x.example"), "from_email: 'a@x", id="two senders"),
    pytest.param(new_message(from_email=""), "from_email: '' is not one", id="no sender"),
    pytest.param(new_message(from_email=None), "from_email is of class NoneType", id="sender is None"),
    pytest.param(new_message(reply_to=["nobody here"]), "reply_to[0]: 'nobody here'", id="bad reply_to"),
    pytest.param(new_message(envelope_sender="two words"), "envelope_sender: 'two words'", id="bad envelope_sender"),
    pytest.param(
        new_message(to=[f"b{n}@x.example" for n in range(51)]), "51 recipients, 50 are allowed", id="51 recipients"
    ),
    pytest.param(
        new_message(
            to=["b@x.example"], cc=[f"{n}@x.example" for n in range(25)], bcc=[f"{n}@y.example" for n in range(25)]
        ),
        "51 recipients, 50 are allowed",
        id="51 recipients in all",
    ),
    pytest.param(new_message(subject="x" * 999), "subject has 999 characters, 998 are allowed", id="long subject"),
    pytest.param(new_message(subject=7), "subject is of class int", id="subject is a number"),
    pytest.param(new_message(body=b"bytes"), "body is of class bytes", id="body is bytes"),
    pytest.param(new_message(body=None), "body is of class NoneType", id="body is None"),
    pytest.param(new_message(extra_headers=[("X-A", "a")]), "extra_headers is of class list", id="headers as a list"),
    pytest.param(new_message(extra_headers={f"X-{n}": "" for n in range(51)}), "51 extra headers, 50", id="51 headers"),
    pytest.param(with_header("", "a"), "'' cannot be the name of a header", id="empty name"),
    pytest.param(with_header("X A", "a"), "'X A' cannot be the name", id="space in a name"),
    pytest.param(with_header("X:A", "a"), "'X:A' cannot be the name", id="colon in a name"),
    pytest.param(with_header("X-Ü", "a"), "'X-Ü' cannot be the name", id="non-ASCII name"),
    pytest.param(with_header("X" * 77, "a"), "cannot be the name", id="long name"),
    pytest.param(with_header("X-A", "a" * 10_001), "'X-A' has 10,001 characters, 10,000 are allowed", id="long value"),
    pytest.param(with_header("X-A", None), "'X-A' is of class NoneType", id="no value"),
    pytest.param(with_header("X-A", ["a"]), "'X-A' is of class list", id="a list as a value"),
    pytest.param(
        with_attachment("a", b"x", "nonsense"), "attachments[0] has no mimetype, or 'nonsense'", id="bad mimetype"
    ),
    pytest.param(with_attachment("a", b"x", "a/b/c"), "attachments[0] has no mimetype, or 'a/b/c'", id="odd mimetype"),
    pytest.param(with_attachment("a", b"x"), "attachments[0] has no mimetype", id="no mimetype"),
    pytest.param(with_attachment(), "attachments[0] has no mimetype", id="empty attachment"),
    pytest.param(with_part("a.pdf"), "attachments[0] has no mimetype", id="a path"),
    pytest.param(
        new_message(alternatives=[("a", "html")]), "alternatives[0] has no mimetype, or 'html'", id="bad alternative"
    ),
]

DENIED = [
    pytest.param("From", "Set from_email", id="From"),
    pytest.param("to", "Put the addresses into to", id="to"),
    pytest.param("Cc", "Put the addresses into cc", id="Cc"),
    pytest.param("BCC", "Put the addresses into bcc", id="BCC"),
    pytest.param("Sender", "Set from_email", id="Sender"),
    pytest.param("Return-Path", "Set envelope_sender", id="Return-Path"),
    pytest.param("DKIM-Signature", "whoever delivers the message signs it", id="DKIM-Signature"),
    pytest.param("Content-Type", "content_subtype", id="Content-Type"),
    pytest.param("content-transfer-encoding", "content_subtype", id="content-transfer-encoding"),
    pytest.param("MIME-Version", "Django writes it", id="MIME-Version"),
    pytest.param("Resent-From", "message/rfc822", id="Resent-From"),
]


@pytest.mark.parametrize(("message", "said"), ALWAYS_BAD)
def test_what_django_or_the_database_refuses_is_always_refused(message: EmailMessage, said: str):
    with pytest.raises(InvalidMessage, match=re.escape(said)):
        check_message(message)
    with pytest.raises(InvalidMessage, match=re.escape(said)):
        check_message(message, strict=False)


@pytest.mark.parametrize(("message", "said"), STRICTLY_BAD)
def test_a_mistake_of_the_program_is_refused_and_named(message: EmailMessage, said: str):
    with pytest.raises(InvalidMessage, match=re.escape(said)):
        check_message(message)


@pytest.mark.parametrize("message", [pytest.param(param.values[0], id=param.id) for param in STRICTLY_BAD])
def test_the_drop_in_backend_lets_pass_what_django_lets_pass(message: EmailMessage):
    check_message(message, strict=False)


@pytest.mark.parametrize(("name", "instead"), DENIED)
def test_a_denied_header_says_what_to_use_instead(name: str, instead: str):
    with pytest.raises(InvalidMessage, match=f"Header '{name}' cannot be set through headers.*{re.escape(instead)}"):
        check_message(with_header(name, "x"))


@pytest.mark.parametrize("name", ["X-From", "Froms", "Content", "To-Do", "Resent", "Contents-A", "DKIM"])
def test_a_header_that_only_looks_like_a_denied_one_passes(name: str):
    check_message(with_header(name, "x"))


@pytest.mark.parametrize(
    ("limits", "message", "said"),
    [
        pytest.param(Limits(body_bytes=4), new_message(body="ü" * 3), "body has 6 bytes, 4 are allowed", id="body"),
        pytest.param(
            Limits(body_bytes=4),
            new_message(alternatives=[("<html>", "text/html")], body=""),
            "alternatives[0] has 6 bytes, 4 are allowed",
            id="alternative",
        ),
        pytest.param(
            Limits(message_bytes=10),
            with_attachment("a", b"x" * 7, "a/b"),
            "The message has 11 bytes, 10 are allowed",
            id="body and attachment",
        ),
        pytest.param(
            Limits(message_bytes=10),
            with_attachment("a", new_message(body="x" * 7), "message/rfc822"),
            "The message has 11 bytes, 10 are allowed",
            id="attached message",
        ),
        pytest.param(
            Limits(message_bytes=5), with_part(modern_part()), "The message has 9 bytes, 5 are allowed", id="MIMEPart"
        ),
    ],
)
def test_what_is_too_large_is_refused_with_size_and_limit(limits: Limits, message: EmailMessage, said: str):
    with pytest.raises(InvalidMessage, match=re.escape(said)):
        check_message(message, limits=limits)
    check_message(message, limits=limits, strict=False)


def test_bytes_as_an_alternative_may_be_larger_than_a_body():
    check_message(new_message(alternatives=[(b"x" * 10, "image/png")]), limits=Limits(body_bytes=5))


def test_no_error_quotes_a_whole_body():
    with pytest.raises(InvalidMessage) as caught:
        check_message(new_message(body="secret " * 1_000_000))

    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_message_attached_to_itself_is_refused():
    message = new_message()
    message.attach("me.eml", message, "message/rfc822")

    with pytest.raises(InvalidMessage, match="attached to itself"):
        check_message(message, strict=False)
