"""Streams: bytes that are read in pieces go in, and plain attachments come out."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

import pytest
from django.core.mail import EmailAttachment, EmailMessage

from mail_outbox.core.envelope import Reading, Stream, dump, load
from mail_outbox.core.envelope.streams import CHUNK, chunks_of, size_of, whole
from mail_outbox.core.errors import InvalidMessage
from mail_outbox.core.validation import Limits, check_message


@dataclass(frozen=True, slots=True)
class Pieces(Stream):
    """Bytes in the pieces they were given in."""

    pieces: tuple[bytes, ...]

    def __str__(self) -> str:
        return "The file 'a.txt'"

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))

    def chunks(self) -> Iterator[bytes]:
        yield from self.pieces


@dataclass(frozen=True, slots=True)
class Unread(Stream):
    """Bytes that nobody may read."""

    size: int = 0

    def chunks(self) -> Iterator[bytes]:
        raise AssertionError("read")


def with_attachment(content: object, mimetype: str) -> EmailMessage:
    attachment = EmailAttachment("a.txt", content, mimetype)  # type: ignore[arg-type]
    return EmailMessage("s", "b", "a@x.example", ["b@y.example"], attachments=[attachment])


def with_stream(*pieces: bytes, mimetype: str = "application/pdf") -> EmailMessage:
    message = with_attachment(b"", mimetype)
    message.attachments = [EmailAttachment("a.txt", Pieces(pieces), mimetype)]  # type: ignore[arg-type]
    return message


def test_a_stream_comes_back_as_bytes():
    [attachment] = load(dump(with_stream(b"%PDF", b"\0\xff"))).attachments

    assert type(attachment) is EmailAttachment
    assert tuple(attachment) == ("a.txt", b"%PDF\0\xff", "application/pdf")


def test_a_stream_of_text_comes_back_as_text_though_a_letter_is_cut_in_two():
    [attachment] = load(dump(with_stream(b"Gr\xc3", b"\xbc\xc3\x9fe", mimetype="text/plain"))).attachments

    assert tuple(attachment) == ("a.txt", "Grüße", "text/plain")


@pytest.mark.parametrize("pieces", [(b"Gr\xfc\xdfe",), (b"Gr\xc3",)], ids=["latin-1", "half a letter"])
def test_what_is_not_in_utf_8_is_no_text(pieces: tuple[bytes, ...]):
    [attachment] = load(dump(with_stream(*pieces, mimetype="text/plain"))).attachments

    assert tuple(attachment) == ("a.txt", b"".join(pieces), "application/octet-stream")


def test_a_stream_has_the_payload_of_its_bytes():
    assert dump(with_stream(b"%P", b"DF")).payload == dump(with_attachment(b"%PDF", "application/pdf")).payload


def test_a_stream_stays_one_until_it_is_written():
    [(name, blob)] = dump(with_stream(b"%P", b"DF")).blobs.items()

    assert (name, blob) == (sha256(b"%PDF").hexdigest(), Pieces((b"%P", b"DF")))
    assert size_of(blob) == 4


def test_a_stream_that_has_been_read_for_another_message_is_not_read_again():
    message = with_attachment(b"", "application/pdf")
    message.attachments = [EmailAttachment("a.pdf", Unread(), "application/pdf")]  # type: ignore[arg-type]

    stored = dump(message, readings={Unread(): Reading("cafe", is_text=False)})

    assert list(stored.blobs) == ["cafe"]


def test_its_size_counts_without_reading_it():
    message = with_attachment(b"", "application/pdf")
    message.attachments = [EmailAttachment("a.pdf", Unread(10), "application/pdf")]  # type: ignore[arg-type]

    check_message(message, limits=Limits(message_bytes=11))
    with pytest.raises(InvalidMessage, match="11 bytes, 10 are allowed"):
        check_message(message, limits=Limits(message_bytes=10))


def test_what_has_changed_since_it_was_named_is_refused_by_name():
    with pytest.raises(InvalidMessage, match=r"The file 'a\.txt' has changed"):
        list(chunks_of(Pieces((b"new",)), name=sha256(b"old").hexdigest()))


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
def test_bytes_are_cut_into_pieces(size: int):
    pieces = list(chunks_of(b"x" * size, name=""))

    assert b"".join(pieces) == b"x" * size
    assert all(len(piece) <= CHUNK for piece in pieces)
    assert whole(Pieces(tuple(map(bytes, pieces)))) == b"x" * size
