"""A message with large attachments is sent without copies of them, and nobody can tell the difference."""

import functools
import smtplib
import weakref
from collections.abc import Callable
from email.message import Message
from typing import Any

import pytest
from anymail.message import AnymailMessage, attach_inline_image
from django.core.mail import EmailMessage, EmailMultiAlternatives
from hypothesis import given, settings
from hypothesis import strategies as st

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery import mime, smtp
from mail_outbox.delivery.stamps import POLICY, Frozen
from tests.delivery.backends import LookingBackend
from tests.delivery.conftest import OpenLine, a_message, a_parcel
from tests.faults.smtp_server import SMTPFaultServer

HEADERS = {"Date": "Fri, 20 Nov 2026 12:30:00 +0000", "Message-ID": "<1@example.com>"}
LARGE = mime.LARGE
PDF = ("größe.pdf", b"%PDF.\r\n.\n" * (LARGE // 8), "application/pdf")


def frozen(message: EmailMessage) -> Frozen:
    return Frozen(message, headers=HEADERS, seed="6f1c", trace=None)


def built(message: EmailMessage) -> bytes:
    """Return what Django alone makes of the message, under our headers and boundaries."""
    return bytes(frozen(message)(**POLICY).as_bytes(**mime.FLATTEN))


def sent(message: EmailMessage) -> bytes:
    """Return what is sent where nothing but the bytes is asked for."""
    ready = frozen(message)
    ready.build_ahead(only_bytes=True)
    return bytes(ready(**POLICY).as_bytes(**mime.FLATTEN))


def is_put_together(message: EmailMessage) -> bool:
    """Tell whether the large attachments were put in by us."""
    return mime.render(message, lambda: frozen(message)(**POLICY)) is not None


def forwarded() -> EmailMessage:
    inner = EmailMultiAlternatives("Inner", "text", "bob@example.com", ["cy@example.com"], headers=dict(HEADERS))
    inner.attach_alternative("<p>inner</p>", "text/html")
    inner.attach(*PDF)
    return inner


sizes = st.integers(LARGE - 2, LARGE + 200) | st.sampled_from([0, 1, 57, mime.PIECE * 2, mime.PIECE * 2 + 1, 200_001])
contents = st.builds(lambda size, seed: (seed * (size // len(seed) + 1))[:size], sizes, st.binary(min_size=1))
filenames = st.sampled_from(["a.pdf", "größe 1;2.pdf", 'quo"ted.pdf', "x" * 200 + ".pdf", "", None])
mimetypes = st.sampled_from([
    "application/pdf", "application/octet-stream", "image/png", "Application/PDF", "application/json", "audio/x-y",
    "text/plain", "text/csv", "TEXT/plain", "message/delivery-status", "multipart/mixed", "x-odd/thing",
])  # fmt: skip
attachments = st.tuples(filenames, contents, mimetypes)


@settings(max_examples=60)
@given(
    known=st.sampled_from([EmailMessage, EmailMultiAlternatives, AnymailMessage]),
    files=st.lists(attachments, max_size=4),
    body=st.sampled_from(["", "Text\n.\n", "Größe\r\nFrom here\n", "x" * 2000]),
    html=st.sampled_from([None, "<p>Häuser</p>"]),
    times=st.sampled_from([1, 2]),
)
def test_what_is_sent_is_what_django_builds(known: Any, files: list[Any], body: str, html: str | None, times: int):
    message = known("Grüße", body, "Shop <shop@example.com>", ["ann@example.com"], headers={"X-Shop": "1"})
    if html is not None and isinstance(message, EmailMultiAlternatives):
        message.attach_alternative(html, "text/html")
    for filename, content, mimetype in files * times:
        if mimetype.lower().startswith("message/") and not content.isascii():
            mimetype = "application/octet-stream"
        message.attach(filename, content, mimetype)
    given = list(message.attachments)

    try:
        expected = built(message)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        with pytest.raises(type(error)):
            sent(message)
    else:
        assert sent(message) == expected
    assert message.attachments == given


RICH: dict[str, Callable[[EmailMultiAlternatives], Any]] = {
    "one file": lambda message: message.attach(*PDF),
    "the same file twice": lambda message: [message.attach(*PDF) for _ in range(2)],
    "a tuple": lambda message: message.attachments.append(PDF),
    "a list": lambda message: message.attachments.append(list(PDF)),
    "a message before the file": lambda message: (message.attach(None, forwarded(), "message/rfc822"), message.attach(*PDF)),
    "an inline image after the file": lambda message: (
        message.attach(*PDF),
        attach_inline_image(message, PDF[1], "logo.png", subtype="png"),
    ),
    "texts around the file": lambda message: (
        message.attach("a.csv", "ä;1\n" * LARGE, "text/csv"),
        message.attach(*PDF),
        message.attach("b.txt", b"bytes\r\n" * LARGE, "text/plain"),
    ),
    "an encoding": lambda message: (message.attach(*PDF), setattr(message, "encoding", "iso-8859-1")),
}  # fmt: skip


@pytest.mark.parametrize("add", RICH.values(), ids=RICH)
@pytest.mark.parametrize("body", ["", "Grüße"])
def test_the_file_is_put_into_what_django_builds(add: Callable[[EmailMultiAlternatives], Any], body: str):
    message = EmailMultiAlternatives("Hello", body, "shop@example.com", ["ann@example.com"], cc=["Çy <cy@example.com>"])
    message.attach_alternative("<p>Grüße</p>", "text/html")
    add(message)

    assert is_put_together(message)
    assert sent(message) == built(message)


@pytest.mark.parametrize(
    "attachment",
    [
        pytest.param(("a.pdf", b"x" * (LARGE - 1), "application/pdf"), id="small"),
        pytest.param(("a.csv", "x" * LARGE, "text/csv"), id="text"),
        pytest.param(("a.json", "x" * LARGE, "application/json"), id="text of another type"),
        pytest.param((None, forwarded(), "message/rfc822"), id="message"),
        pytest.param((None, b"Subject: x\r\n\r\n" + b"x\r\n" * LARGE, "message/rfc822"), id="bytes of a message"),
    ],
)
def test_what_is_small_or_no_file_goes_the_ordinary_way(attachment: Any):
    message = a_message()
    message.attachments = [attachment]

    assert mime.render(message, lambda: pytest.fail("built with something else in its place")) is None
    assert sent(message) == built(message)


def test_no_attachments_at_all_are_nothing_to_put_in():
    message = a_message()
    message.attachments = None  # type: ignore[assignment]

    assert sent(message) == built(message)


def test_attachments_are_back_in_their_place_when_the_message_cannot_be_built():
    message = a_message(subject="two\nlines")
    message.attach(*PDF)
    attachments = message.attachments

    with pytest.raises(ValueError, match=r"newline|linefeed"):
        sent(message)

    assert message.attachments is attachments


def test_what_is_encoded_in_another_way_goes_the_ordinary_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mime, "LINE", 54)
    message = a_message(attachments=[PDF])

    assert not is_put_together(message)
    assert sent(message) == built(message)


class Signed(EmailMessage):
    """Signs what it makes, as far as this test can see."""

    def message(self, **options: Any) -> Message:
        seen.append(self.attachments[0][1])
        return super().message(**options)


seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()
    LookingBackend.seen.clear()


class Counting(EmailMultiAlternatives):
    """Looks at its attachments in a method that is none of anybody's business."""

    def _create_attachments(self, msg: Any) -> Any:
        seen.append(self.attachments[0][1])
        return super()._create_attachments(msg)

    def _add_attachments(self, msg: Any) -> Any:
        seen.append(self.attachments[0][1])
        return super()._add_attachments(msg)


@pytest.mark.parametrize("known", [Signed, Counting])
def test_a_subclass_that_signs_sees_the_content(known: type[EmailMessage]):
    message = known("Hello", "Hello", "shop@example.com", ["ann@example.com"], attachments=[PDF])

    assert sent(message) == built(message)
    assert seen == [PDF[1]] * 2


def test_a_library_that_replaces_djangos_method_sees_the_content(monkeypatch: pytest.MonkeyPatch):
    original = EmailMessage.message

    @functools.wraps(original)
    def signing(self: EmailMessage, **options: Any) -> Message:
        seen.append(self.attachments[0][1])
        return original(self, **options)

    monkeypatch.setattr(EmailMessage, "message", signing)
    message = a_message(attachments=[PDF])

    assert sent(message) == built(message)
    assert seen == [PDF[1]] * 2


@pytest.mark.parametrize("backend", ["LookingBackend", "CopyingBackend"])
def test_a_backend_that_looks_into_the_message_sees_the_content(open_line: OpenLine, backend: str):
    with SMTPFaultServer() as server:
        line = open_line(f"tests.delivery.backends.{backend}", host=server.host, port=server.port)
        outcome = line.deliver(a_parcel(a_message(attachments=[PDF])))

    assert outcome.kind is Kind.SENT
    assert LookingBackend.seen == [PDF[1]]


def test_a_large_message_arrives_as_django_builds_it(smtp_line: OpenLine, monkeypatch: pytest.MonkeyPatch):
    rendered: list[mime.Rendered | None] = []
    render = mime.render
    monkeypatch.setattr(mime, "render", lambda *args: rendered.append(render(*args)) or rendered[-1])
    message = a_message(body="Hello\n.\n..world\n", attachments=[PDF], headers=HEADERS)
    with SMTPFaultServer() as server:
        outcome = smtp_line(server).deliver(a_parcel(message))

    assert outcome.kind is Kind.SENT
    assert isinstance(rendered[0], mime.Rendered)
    [accepted] = server.journal
    assert accepted.data == built(message)
    [mail] = [command for command in server.commands if command.lower().startswith("mail")]
    assert mail.endswith(f"size={len(accepted.data)}")


def test_what_went_to_a_lost_connection_is_let_go_before_it_is_built_again(
    smtp_line: OpenLine, monkeypatch: pytest.MonkeyPatch
):
    rendered: list[weakref.ref[mime.Rendered]] = []
    left: list[int] = []
    render = mime.render

    def watched(*args: Any) -> mime.Rendered | None:
        left.append(sum(each() is not None for each in rendered))
        made = render(*args)
        if made is not None:
            rendered.append(weakref.ref(made))
        return made

    monkeypatch.setattr(mime, "render", watched)
    with SMTPFaultServer({"mail": [None, "drop"]}) as server:
        line = smtp_line(server)
        kinds = [line.deliver(a_parcel(a_message(attachments=[PDF]))).kind for _ in range(2)]

    assert kinds == [Kind.SENT, Kind.SENT]
    assert left == [0, 0, 0]


def test_whoever_asks_for_more_than_the_bytes_is_given_the_real_message():
    message = a_message(attachments=[PDF])
    rendered: Any = mime.render(message, lambda: frozen(message)(**POLICY))

    assert rendered.as_bytes(unixfrom=True, **mime.FLATTEN).endswith(built(message))
    assert rendered.get_content_type() == "multipart/mixed"
    assert [part.get_payload(decode=True) for part in rendered.walk() if part.get_filename()] == [PDF[1]]


@given(st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"a", b"\r\n.\r\n", b"bcdef"]), max_size=40))
def test_a_body_in_pieces_is_what_smtplib_sends_in_one(parts: list[bytes]):
    content = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smtp, "CHUNK", 4)
        stuffed = b"".join(smtp.dot_stuffed(content))

    expected = smtplib._quote_periods(content)  # type: ignore[attr-defined]
    assert stuffed == (expected if expected.endswith(b"\r\n") else expected + b"\r\n")


def test_a_body_is_cut_into_pieces():
    assert max(map(len, smtp.dot_stuffed(b".\n" * 100_000))) <= 2 * smtp.CHUNK
