"""A mail as it was or will be sent: its parts for a browser, and its source."""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage as MIMEMessage
from email.message import Message
from email.utils import format_datetime
from typing import Any

from django.core.mail import EmailMessage

from mail_outbox.core.errors import UnreadableEnvelope
from mail_outbox.delivery.stamps import POLICY, Frozen
from mail_outbox.models import OutboxEntry

IMAGE = re.compile(r"image/[a-z0-9.+-]+", re.I)
CID = re.compile(r"""cid:([^"'\s)>]+)""", re.I)
HEAD = re.compile(r"<head\b[^<>]*>", re.I)
NO_LINKS = '<base target="_blank">'
"""Under a sandbox that lets nothing pop up, a link that would open a new window does nothing."""
DOCUMENT_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""What makes a document of somebody else's HTML harmless: no scripts, no forms, no network, no name."""
FOR_PROVIDER = (
    "template_id",
    "merge_data",
    "merge_global_data",
    "merge_metadata",
    "merge_headers",
    "tags",
    "metadata",
    "esp_extra",
    "envelope_sender",
    "track_opens",
    "track_clicks",
)
"""What Anymail tells a provider beside the MIME message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """One part that is neither the text nor the HTML: an attachment, or an image inside the HTML."""

    name: str
    content_type: str
    content_id: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One mail, built as it was or will be sent, with its Date and Message-ID."""

    headers: tuple[tuple[str, str], ...]
    text: str | None
    html: str | None
    attachments: tuple[Attached, ...]
    for_provider: Mapping[str, Any]
    source: bytes

    def document(self) -> str:
        """Return the HTML for a sandboxed frame: its own images inside it, its links dead, otherwise as it is."""
        images = {
            each.content_id: each for each in self.attachments if each.content_id and IMAGE.fullmatch(each.content_type)
        }

        def inline(found: re.Match[str]) -> str:
            image = images.get(found[1])
            if image is None:
                return found[0]
            return f"data:{image.content_type};base64,{base64.b64encode(image.data).decode()}"

        html = CID.sub(inline, self.html or "")
        head = HEAD.search(html)
        place = head.end() if head else 0
        return html[:place] + NO_LINKS + html[place:]


def preview(entry: OutboxEntry) -> Preview:
    """Build the entry's mail and take it apart; raises UnreadableEnvelope where there is none, or none can be built."""
    message = entry.message()
    source = _source(entry, message)
    built = message_from_bytes(source, policy=policy.default)
    assert isinstance(built, MIMEMessage)  # noqa: S101 (what policy.default makes)
    text: str | None = None
    html: str | None = None
    attachments = []
    for part in _leaves(built):
        kind = part.get_content_type()
        is_body = not part.is_attachment() and part.get_filename() is None
        if is_body and kind == "text/plain" and text is None:
            text = _text(part)
        elif is_body and kind == "text/html" and html is None:
            html = _text(part)
        else:
            attachments.append(_attached(part))
    return Preview(
        headers=tuple((str(name), _one_line(value)) for name, value in built.items()),
        text=text,
        html=html,
        attachments=tuple(attachments),
        for_provider={name: value for name in FOR_PROVIDER if _is_given(value := vars(message).get(name))},
        source=source,
    )


def _is_given(value: object) -> bool:
    # Anymail's UNSET is a class.
    return bool(value) and not isinstance(value, type)


def _source(entry: OutboxEntry, message: EmailMessage) -> bytes:
    headers = {"Date": format_datetime(entry.date), "Message-ID": entry.message_id}
    build = Frozen(message, headers=headers, seed=entry.uuid.hex, trace=None)
    try:
        # As Django's SMTP backend does it, before 6.0 and since.
        return build(**POLICY).as_bytes() if POLICY else build().as_bytes(linesep="\r\n")  # type: ignore[call-arg]
    except Exception as error:
        # Whatever a message class or the library of the standard raises: the mail cannot be shown, and that is all.
        raise UnreadableEnvelope(f"The message cannot be built ({type(error).__name__}).") from error


def _leaves(message: Any) -> Iterator[Any]:
    """Yield the parts that hold something; a mail inside the mail is one part."""
    if message.get_content_maintype() != "multipart":
        yield message
        return
    for part in message.iter_parts():
        yield from _leaves(part)


def _text(part: Message) -> str:
    data = part.get_payload(decode=True)
    content = data if isinstance(data, bytes) else b""
    try:
        return content.decode(part.get_content_charset("utf-8"), "replace")
    except LookupError:
        return content.decode("utf-8", "replace")


def _attached(part: Message) -> Attached:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        data = b"".join(
            inner.as_bytes(policy=policy.SMTP) for inner in part.get_payload() if isinstance(inner, Message)
        )
    return Attached(
        name=safe_name(part.get_filename() or ""),
        content_type=part.get_content_type(),
        content_id=str(part.get("Content-ID", "")).strip().strip("<>"),
        data=data,
    )


def safe_name(name: str) -> str:
    """Return the last part of a file name, without what could change how the rest is read; at most 100 characters."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(character for character in last if character.isprintable())[:100].strip(". ") or "unnamed"


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
