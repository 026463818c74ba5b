"""What goes in comes out: a message as JSON and blobs, and back."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.errors import MessageError
from hashlib import sha256
from typing import Any

from django.core.mail import EmailMessage

from mail_outbox.core.envelope.classes import known_classes
from mail_outbox.core.envelope.kinds import JSON
from mail_outbox.core.envelope.pack import Packer
from mail_outbox.core.envelope.unpack import Unpacker
from mail_outbox.core.errors import UnreadableEnvelope

__all__ = ["JSON", "VERSION", "Envelope", "blob_names", "digest", "dump", "load"]

VERSION = 1
"""The version this code writes. It reads this one and, once there are any, those before."""

DAMAGE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError, MessageError)
"""What comes of taking a damaged payload for a good one."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message at rest: a payload for a JSON column, and the bytes it refers to by their SHA-256."""

    payload: dict[str, JSON]
    blobs: Mapping[str, bytes]


def dump(message: EmailMessage, *, classes: Mapping[str, type[EmailMessage]] | None = None) -> Envelope:
    """Turn the message into an envelope that loses nothing; raise UnserializableMessage naming what cannot be kept.

    Lazy texts are resolved in the active language, a naive `send_at` in the current time zone.
    """
    packer = Packer(known_classes(classes))
    payload: dict[str, JSON] = {"version": VERSION, **packer.message(message)}
    return Envelope(payload, packer.blobs)


def load(envelope: Envelope, *, classes: Mapping[str, type[EmailMessage]] | None = None) -> EmailMessage:
    """Turn the envelope back into the message; raise UnreadableEnvelope, and nothing else, where that cannot be done."""
    payload: Any = envelope.payload
    try:
        _check_version(payload["version"])
        return Unpacker(known_classes(classes), envelope.blobs).message(payload)
    except UnreadableEnvelope:
        raise
    except DAMAGE as error:
        raise UnreadableEnvelope(f"The stored message is damaged ({type(error).__name__}). Send it anew.") from error


def digest(payload: Mapping[str, JSON]) -> str:
    """Compute the SHA-256 of the payload, the same in whatever order a database gives the keys back."""
    return sha256(json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


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
