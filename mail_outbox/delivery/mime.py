"""The bytes of a message with large attachments, made without a copy of them at every step on the way."""

import binascii
import io
import secrets
from collections.abc import Callable, Iterator
from email.message import Message
from types import ModuleType
from typing import Any

import django
from django.core.mail import EmailAttachment, EmailMessage
from django.core.mail import message as django_message

from mail_outbox.core.envelope.classes import name_of

LARGE = 64 * 1024
"""Attachments of fewer bytes go the ordinary way."""
BINARY = frozenset({"application", "audio", "font", "image", "model", "video"})
"""What Django always encodes as base64; for text, messages and multiparts it has rules of their own."""
LINE = 57
"""Bytes in one line of base64, which makes 76 characters, the most that RFC 2045 6.8 allows."""
PIECE = LINE * 1024
CRLF = b"\r\n"
# How Django's SMTP backend asks for the bytes.
FLATTEN: dict[str, Any] = {} if django.VERSION >= (6, 0) else {"linesep": "\r\n"}


class Rendered:
    """Stands in for a MIME message of which nothing is asked but its bytes; for everything else the message is built."""

    def __init__(self, content: bytes, build: Callable[[], Message]) -> None:
        self._content, self._build = content, build

    def as_bytes(self, **options: Any) -> bytes:
        """Return the bytes, ready where they are asked for as by Django's SMTP backend."""
        return self._content if options == FLATTEN else self._build().as_bytes(**options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._build(), name)


def render(message: EmailMessage, build: Callable[[], Message]) -> Rendered | None:
    """Return the bytes of what `build` makes of the message; None where nothing is large, or not certain to stay the same.

    Django builds the message with something small in the place of every large attachment, whose base64 is put in after.
    """
    contents: dict[bytes, bytes] = {}
    given = message.attachments
    if not is_built_by_django(message):
        return None
    try:
        message.attachments = [_hidden(each, contents) for each in given or ()]
        rest = build().as_bytes(**FLATTEN) if contents else b""
    finally:
        message.attachments = given
    # Where somebody encodes in another way than we do, it shows in what stands for the content, too.
    is_certain = contents and all(rest.count(sign) == 1 for sign in contents)
    return Rendered(_filled(rest, contents), build) if is_certain else None


def is_djangos_own(method: object, module: ModuleType) -> bool:
    """Tell whether the method is the one in Django's module: neither overridden nor replaced."""
    return getattr(method, "__globals__", None) is vars(module)


def is_built_by_django(message: EmailMessage) -> bool:
    """Tell whether nothing but Django's own code makes the MIME of the message."""
    # Whoever builds in a way of his own may sign what comes of it, or look into the attachments.
    return name_of(type(message), {}) is not None and is_djangos_own(type(message).message, django_message)


def _hidden(attachment: Any, contents: dict[bytes, bytes]) -> Any:
    """Return the attachment; a large one with something in the place of its content, which is noted by the sign left for it."""
    match attachment:
        case (filename, bytes() as content, str() as mimetype) if len(content) >= LARGE and _is_binary(mimetype):
            stand_in = secrets.token_bytes(LINE + 1)
            contents[b"".join(_encoded(stand_in))] = content
            return EmailAttachment(filename, stand_in, mimetype)
    return attachment


def _is_binary(mimetype: str) -> bool:
    return mimetype.partition("/")[0] in BINARY


def _filled(rest: bytes, contents: dict[bytes, bytes]) -> bytes:
    buffer, end = io.BytesIO(), 0
    for place, sign in sorted((rest.index(sign), sign) for sign in contents):
        buffer.write(rest[end:place])
        buffer.writelines(_encoded(contents[sign]))
        end = place + len(sign)
    buffer.write(rest[end:])
    return buffer.getvalue()


def _encoded(content: bytes) -> Iterator[bytes]:
    """Yield the content in base64, in pieces of whole lines."""
    for start in range(0, len(content), PIECE):
        text = binascii.b2a_base64(content[start : start + PIECE], newline=False)
        yield b"".join(text[at : at + LINE // 3 * 4] + CRLF for at in range(0, len(text), LINE // 3 * 4))
