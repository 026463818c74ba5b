"""MIME parts taken to pieces and put together, so that a part comes back as the running Django wants it."""

from collections.abc import Iterator
from email.header import Header
from email.headerregistry import BaseHeader
from email.message import Message, MIMEPart
from email.mime.base import MIMEBase
from email.policy import default as default_policy
from typing import Any, TypeAlias

import django

from mail_outbox.core.envelope.text import flaw

DJANGO_TAKES_MIMEPART = django.VERSION >= (6, 0)

Part: TypeAlias = "Message[Any, Any]"


def header_sources(part: Part) -> Iterator[tuple[str, str]]:
    """Yield the headers of the part as they stand in a message on the wire: encoded and folded."""
    for name, value in part.raw_items():
        yield name, _source(name, value)


def payload(part: Part) -> Any:
    """Return the text, or the list of parts, that the part holds."""
    # Not get_payload(): it replaces bytes that are not ASCII, and flattening would change the line ends of a calendar.
    return vars(part)["_payload"]


def make_part(sources: list[tuple[str, str]], payload: Any, *, is_modern: bool) -> Part:
    """Build the part: a MIMEPart where Django takes one, else (or where only that will do) a MIMEBase."""
    # Anymail can send a part that holds other parts only as a MIMEBase, so one that was given as such stays one.
    part: Part = MIMEPart() if DJANGO_TAKES_MIMEPART and (is_modern or not isinstance(payload, list)) else _mime_base()
    for name, source in sources:
        part.set_raw(name, source)
    part.set_payload(payload)
    return part


def _mime_base() -> MIMEBase:
    part = MIMEBase("text", "plain")
    del part["Content-Type"], part["MIME-Version"]
    return part


def _source(name: str, value: Any) -> str:
    if isinstance(value, BaseHeader):
        return value.fold(policy=default_policy).partition(":")[2].strip()
    if isinstance(value, Header):
        return value.encode()
    source = str(value)
    # Stray bytes of a message that was parsed stay as they are: the generator knows what to do about them.
    return source if source.isascii() or flaw(source) else Header(source, header_name=name).encode()
