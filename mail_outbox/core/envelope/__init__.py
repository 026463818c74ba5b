"""What goes in comes out: a message as JSON and blobs, and back."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.errors import MessageError
from hashlib import sha256
from typing import Any

from django.core.mail import EmailMessage

from mail_outbox.core.envelope.kinds import JSON
from mail_outbox.core.envelope.pack import Packer
from mail_outbox.core.envelope.shared import long_texts, reference, with_long_texts
from mail_outbox.core.envelope.streams import Blob, Reading, Stream
from mail_outbox.core.envelope.text import encoded
from mail_outbox.core.envelope.unpack import Unpacker
from mail_outbox.core.errors import UnreadableEnvelope

__all__ = ["JSON", "VERSION", "Blob", "Envelope", "Reading", "Stream", "blob_names", "digest", "dump", "load", "share"]

VERSION = 1
"""The version this code writes. It reads this one and, once there are any, those before."""

CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
"""The one way to write a payload of which the digest is made."""
DAMAGE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError, MessageError)
"""What comes of taking a damaged payload for a good one."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message at rest: a payload for a JSON column, and the bytes it refers to by their SHA-256."""

    payload: dict[str, JSON]
    blobs: Mapping[str, Blob]


def dump(
    message: EmailMessage,
    *,
    classes: Mapping[str, type[EmailMessage]] | None = None,
    readings: dict[Stream, Reading] | None = None,
) -> Envelope:
    """Turn the message into an envelope that loses nothing; raise UnserializableMessage naming what cannot be kept.

    Lazy texts are resolved in the active language, a naive `send_at` in the current time zone. `readings` is what to
    remember of streams, so that one that many messages carry is read once.
    """
    packer = Packer(classes or {}, {} if readings is None else readings)
    payload: dict[str, JSON] = {"version": VERSION, **packer.message(message)}
    return Envelope(payload, packer.blobs)


def load(envelope: Envelope, *, classes: Mapping[str, type[EmailMessage]] | None = None) -> EmailMessage:
    """Turn the envelope back into the message; raise UnreadableEnvelope, and nothing else, where that cannot be done."""
    payload: Any = envelope.payload
    try:
        _check_version(payload["version"])
        return Unpacker(classes or {}, envelope.blobs).message(payload)
    except UnreadableEnvelope:
        raise
    except DAMAGE as error:
        raise UnreadableEnvelope(f"The stored message is damaged ({type(error).__name__}). Send it anew.") from error


def share(envelopes: Sequence[Envelope], *, stored: Collection[str] = ()) -> list[Envelope]:
    """Move every long text that at least two of the envelopes have into a blob, and return the envelopes in order.

    A text whose blob is `stored` already, under its SHA-256, is moved even if one envelope alone has it.
    """
    texts = [long_texts(envelope.payload) for envelope in envelopes]
    moved: dict[str, tuple[dict[str, JSON], bytes]] = {}
    for text, count in Counter(text for each in texts for text in each).items():
        if count > 1 or stored:
            place = reference(text)
            if count > 1 or place["blob"] in stored:
                moved[text] = place, encoded(text)
    return [
        _moved(envelope, {text: moved[text] for text in each & moved.keys()}) if each & moved.keys() else envelope
        for envelope, each in zip(envelopes, texts, strict=True)
    ]


def _moved(envelope: Envelope, texts: Mapping[str, tuple[dict[str, JSON], bytes]]) -> Envelope:
    payload: Any = with_long_texts(dict(envelope.payload), lambda text: texts[text][0] if text in texts else text)
    return Envelope(payload, {**envelope.blobs, **{str(place["blob"]): content for place, content in texts.values()}})


def digest(payload: Mapping[str, JSON]) -> str:
    """Compute the SHA-256 of the payload.

    It is the same in whatever order a database gives the keys back, and wherever a long text is stored.
    """
    packed = with_long_texts(dict(payload), reference)
    return sha256(CANONICAL.encode(packed).encode()).hexdigest()


def blob_names(payload: Mapping[str, JSON]) -> frozenset[str]:
    """List the blobs the payload refers to, by their SHA-256."""
    return frozenset(_blob_names(payload))


def _blob_names(value: object) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _blob_names(item)
    elif isinstance(value, Mapping):
        # Every object in a payload is one of ours: what the caller gave as a dict is kept as a list of pairs.
        if "blob" in value:
            yield str(value["blob"])
        for item in value.values():
            yield from _blob_names(item)


def _check_version(version: object) -> None:
    if version == VERSION:
        return
    if isinstance(version, int) and version > VERSION:
        raise UnreadableEnvelope(
            f"The stored message has version {version}, this code reads up to {VERSION}. Deploy the newer code here."
        )
    raise UnreadableEnvelope(f"The stored message is damaged: there is no version {version!r}.")
