"""What is refused at enqueue, where the caller still is."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from email.message import Message
from typing import NamedTuple

from django.core.mail import EmailMessage
from django.utils.functional import Promise

from mail_outbox.core.addresses import ROLES, address_texts, parse, quoted
from mail_outbox.core.envelope.streams import Stream
from mail_outbox.core.envelope.text import flaw
from mail_outbox.core.errors import InvalidMessage

HEADER_NAME = re.compile(r"[!-9;-~]+")
ATOM = r"[A-Za-z0-9!#$%&'*+.^_`|~{}-]+"
MIMETYPE = re.compile(rf"{ATOM}/{ATOM}(\s*;.*)?")
STRAY_NEWLINE = re.compile(r"\r(?!\n)|\n(?![ \t])")
"""A newline that does not merely fold a header."""

INSTEAD = {
    "from": "Set from_email; for another address in the envelope set envelope_sender (Anymail).",
    "to": "Put the addresses into to.",
    "cc": "Put the addresses into cc.",
    "bcc": "Put the addresses into bcc.",
    "sender": "Set from_email; for another address in the envelope set envelope_sender (Anymail).",
    "return-path": "Set envelope_sender (Anymail); the receiving server writes this header.",
    "mime-version": "Leave it out: Django writes it.",
    "dkim-": "Leave it out: whoever delivers the message signs it.",
    "content-": "Leave it out: Django writes it from content_subtype, encoding, alternatives and attachments.",
    "resent-": "Leave it out: attach the message you forward as message/rfc822.",
}
"""The headers that are denied, by name or by how the name begins, and what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of everything one message may have; sizes in bytes as UTF-8, before any encoding for transport."""

    message_bytes: int = 25_000_000
    body_bytes: int = 1_000_000
    recipients: int = 50
    headers: int = 50
    header_name_length: int = 76
    header_value_length: int = 10_000
    subject_length: int = 998


DEFAULT_LIMITS = Limits()


class Piece(NamedTuple):
    """One thing inside a message: its body, an alternative or an attachment, and how an error names it."""

    where: str
    content: object
    filename: object = None
    mimetype: object = None


def check_message(message: EmailMessage, *, limits: Limits = DEFAULT_LIMITS, strict: bool = True) -> None:
    """Raise InvalidMessage where the message can never be delivered as it is.

    Without `strict`, for the drop-in backend: only where Django raises, too, or where no database can store the text.
    """
    if not isinstance(message, EmailMessage):
        raise InvalidMessage(
            f"Expected an EmailMessage, not {type(message).__name__}; several at once take enqueue_many."
        )
    pieces = list(_pieces(message))
    try:
        _check_texts(message, pieces)
        if strict:
            _check_addresses(message, limits)
            _check_headers(message, limits)
            _check_pieces(message, pieces, limits)
    except RecursionError:
        raise InvalidMessage("The message is attached to itself. Attach a copy.") from None


def _check_texts(message: EmailMessage, pieces: Sequence[Piece], *, within: str = "") -> None:
    for what, about, text in _lines(message, pieces):
        if "\n" in text or "\r" in text:
            raise InvalidMessage(
                f"{within}{_named(what, about)} has a newline in it: {quoted(text)}. Make it one line."
            )
        if problem := flaw(text):
            raise _unstorable(f"{within}{_named(what, about)}", problem)
    for piece in pieces:
        where = f"{within}{piece.where}"
        if _is_text(piece.content):
            if problem := flaw(str(piece.content)):
                raise _unstorable(where, problem)
        elif isinstance(piece.content, EmailMessage):
            _check_texts(piece.content, list(_pieces(piece.content)), within=f"In {where}: ")
        elif isinstance(piece.content, Message) and not piece.mimetype:
            _check_part(where, piece.content)


def _unstorable(what: str, problem: str) -> InvalidMessage:
    return InvalidMessage(f"{what} contains {problem}, which no database stores. Remove it.")


def _check_part(where: str, part: Message) -> None:
    for name, value in part.raw_items():
        if HEADER_NAME.fullmatch(name) is None or STRAY_NEWLINE.search(str(value)):
            raise InvalidMessage(
                f"{where} has a broken header {quoted(name)}. Make its name and its value one line each."
            )


def _check_addresses(message: EmailMessage, limits: Limits) -> None:
    from_email: object = message.from_email
    if from_email is not None or not _has_template(message):
        _check_address("from_email", from_email)
    envelope_sender = getattr(message, "envelope_sender", None)
    if _is_text(envelope_sender):
        _check_address("envelope_sender", envelope_sender)
    for name in ROLES:
        _check_list(name, getattr(message, name))
    if message.reply_to is not None:  # None keeps Anymail from filling in the default of the settings.
        _check_list("reply_to", message.reply_to)
    count = len(message.to) + len(message.cc) + len(message.bcc)
    if not count:
        raise InvalidMessage("The message has no recipient. Put at least one address into to, cc or bcc.")
    if count > limits.recipients:
        raise InvalidMessage(
            f"The message has {count} recipients, {limits.recipients} are allowed. Send several messages."
        )


def _check_list(name: str, addresses: object) -> None:
    # Django adds the lists up, which a tuple spoils, and takes a text for a list of letters.
    if not isinstance(addresses, list):
        raise InvalidMessage(f"{name} is {_kind(addresses)}. Make it a list of addresses.")
    for index, address in enumerate(addresses):
        _check_address(f"{name}[{index}]", address)


def _check_address(where: str, address: object) -> None:
    if not _is_text(address):
        raise InvalidMessage(f"{where} is {_kind(address)}. Make it a text with one address.")
    try:
        parse(str(address))
    except InvalidMessage as error:
        raise InvalidMessage(f"{where}: {error}") from None


def _check_headers(message: EmailMessage, limits: Limits) -> None:
    subject: object = message.subject
    if subject is not None or not _has_template(message):
        _check_text("subject", subject)
        _check_length("subject", str(subject), limits.subject_length)
    if not isinstance(message.extra_headers, dict):
        raise InvalidMessage(f"extra_headers is {_kind(message.extra_headers)}. Make it a dict.")
    if len(message.extra_headers) > limits.headers:
        raise InvalidMessage(
            f"The message has {len(message.extra_headers)} extra headers, {limits.headers} are allowed. Drop some."
        )
    for name, value in message.extra_headers.items():
        _check_header_name(str(name), limits)
        where = f"Header {quoted(str(name))}"
        if not isinstance(value, int | float | Decimal | date):
            _check_text(where, value)
        _check_length(where, str(value), limits.header_value_length)


def _check_header_name(name: str, limits: Limits) -> None:
    if HEADER_NAME.fullmatch(name) is None or len(name) > limits.header_name_length:
        raise InvalidMessage(
            f"{quoted(name)} cannot be the name of a header. Use 1 to {limits.header_name_length} printable ASCII"
            " characters, no space and no colon."
        )
    for denied, instead in INSTEAD.items():
        if name.lower() == denied or (denied.endswith("-") and name.lower().startswith(denied)):
            raise InvalidMessage(f"Header {quoted(name)} cannot be set through headers. {instead}")


def _check_pieces(message: EmailMessage, pieces: Sequence[Piece], limits: Limits) -> None:
    size = 0
    for piece in pieces:
        if piece.where == "body":
            if piece.content is not None or not _has_template(message):
                _check_text("body", piece.content)
        elif not isinstance(piece.content, Message) or piece.mimetype is not None:
            _check_mimetype(piece)
        own_size = _size(piece)
        size += own_size
        if not piece.where.startswith("attachments") and _is_text(piece.content):
            _check_size(piece.where, own_size, limits.body_bytes)
    _check_size("The message", size, limits.message_bytes)


def _check_mimetype(piece: Piece) -> None:
    if not isinstance(piece.mimetype, str) or MIMETYPE.fullmatch(piece.mimetype) is None:
        raise InvalidMessage(
            f"{piece.where} has no mimetype, or {quoted(str(piece.mimetype))} is none. Give one like 'application/pdf'."
        )


def _check_text(where: str, value: object) -> None:
    if not _is_text(value):
        raise InvalidMessage(f"{where} is {_kind(value)}. Make it a text.")


def _check_length(where: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise InvalidMessage(f"{where} has {len(text):,} characters, {limit:,} are allowed. Shorten it.")


def _check_size(where: str, size: int, limit: int) -> None:
    if size > limit:
        raise InvalidMessage(
            f"{where} has {size:,} bytes, {limit:,} are allowed. Shorten it, or link to what is large."
        )


def _lines(message: EmailMessage, pieces: Sequence[Piece]) -> Iterator[tuple[str, object, str]]:
    """Yield every text that has to be one line, with what names it: a name, and what it is the name of."""
    # To put it into words would take longer than all the rest, and nobody reads it.
    yield "subject", None, str(message.subject)
    yield "from_email", None, str(message.from_email)
    for name in (*ROLES, "reply_to"):
        addresses = getattr(message, name, None)
        if addresses:
            for index, text in enumerate(address_texts(addresses)):
                yield name, index, text
    headers = message.extra_headers
    for name, value in headers.items() if isinstance(headers, dict) else ():
        yield "The name of header", str(name), str(name)
        yield "Header", str(name), str(value)
    for piece in pieces:
        if piece.filename is not None:
            yield "The filename of", piece, str(piece.filename)
        if piece.mimetype is not None:
            yield "The mimetype of", piece, str(piece.mimetype)


def _named(what: str, about: object) -> str:
    match about:
        case None:
            return what
        case int():
            return f"{what}[{about}]"
        case Piece():
            return f"{what} {about.where}"
    return f"{what} {quoted(str(about))}"


def _pieces(message: EmailMessage) -> Iterator[Piece]:
    yield Piece("body", message.body)
    for index, alternative in enumerate(getattr(message, "alternatives", None) or ()):
        content, mimetype = (*alternative, None, None)[:2]
        yield Piece(f"alternatives[{index}]", content, mimetype=mimetype)
    for index, attachment in enumerate(message.attachments or ()):
        where = f"attachments[{index}]"
        if isinstance(attachment, list | tuple):
            filename, content, mimetype = (*attachment, None, None, None)[:3]
            yield Piece(where, content, filename, mimetype)
        else:
            yield Piece(where, attachment)


def _size(piece: Piece) -> int:
    match piece.content:
        case str() | Promise() as text:
            text = str(text)
            return len(text) if text.isascii() else len(text.encode())
        case bytes() | bytearray() | memoryview() as content:
            return len(content)
        case Stream() as stream:
            return stream.size
        case EmailMessage() as message:
            return sum(map(_size, _pieces(message)))
        case Message() as part:
            return sum(len(str(leaf.get_payload())) for leaf in part.walk() if not leaf.is_multipart())
    return 0


def _is_text(value: object) -> bool:
    return type(value) is str or isinstance(value, str | Promise)


def _has_template(message: EmailMessage) -> bool:
    template = getattr(message, "template_id", None)
    return isinstance(template, str | int | Promise)


def _kind(value: object) -> str:
    return f"of class {type(value).__name__}"
