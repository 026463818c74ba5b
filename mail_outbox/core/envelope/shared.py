"""Long texts in a payload: found, and put into a blob where that saves a copy."""

from collections.abc import Callable
from hashlib import sha256

from mail_outbox.core.envelope.kinds import JSON
from mail_outbox.core.envelope.text import encoded

SHARED_LENGTH = 4_096
"""From so many bytes of UTF-8 on, a text that several messages have is stored once."""


def long_texts(packed: JSON) -> frozenset[str]:
    """Return the long texts in a packed value, however deep."""
    found: set[str] = set()

    def note(text: str) -> JSON:
        found.add(text)
        return text

    with_long_texts(packed, note)
    return frozenset(found)


def with_long_texts(packed: JSON, replace: Callable[[str], JSON]) -> JSON:
    """Return a packed value with every long text in it replaced, where unpacking takes a text or a reference alike."""
    # Most of what is in a payload is empty or short, and there is much of it.
    if isinstance(packed, str):
        return replace(packed) if _is_long(packed) else packed
    if not packed:
        return packed
    if isinstance(packed, list):
        return [with_long_texts(item, replace) for item in packed]
    if isinstance(packed, dict):
        if "items" in packed:
            return {**packed, "items": with_long_texts(packed["items"], replace)}
        if isinstance(fields := packed.get("fields"), dict):
            return {**packed, "fields": {name: with_long_texts(value, replace) for name, value in fields.items()}}
    return packed


def reference(text: str) -> dict[str, JSON]:
    """Return what stands in a payload for a text that is in a blob."""
    return {"type": "text", "blob": sha256(encoded(text)).hexdigest()}


def _is_long(text: str) -> bool:
    length = len(text)
    # A character is four bytes at most.
    return length >= SHARED_LENGTH or (
        4 * length >= SHARED_LENGTH and not text.isascii() and len(encoded(text)) >= SHARED_LENGTH
    )
