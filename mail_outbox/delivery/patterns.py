"""What a refusal has in common with others for the same reason, so that a bad sender or template can be told from a bad message."""

import hashlib
import re

from mail_outbox.core.addresses import normalise
from mail_outbox.core.outcomes import Outcome, Permanent

SYSTEMATIC = frozenset({400, 422})
"""The HTTP statuses by which a provider refuses what every message of a template may have in common."""
# RFC 1870: the size is the message's own, whoever sends it.
_TOO_BIG = re.compile(r"5\.(?:2\.3|3\.4)\b")
# Ids and moments differ in every answer. An address stays: a refusal that names one is about that one.
_CHANGING = re.compile(
    r"(?P<address>[^\s\"'<>]+@[^\s\"'<>]+)"
    r"|\d+(?:[-:.T]\d+){2,}Z?"
    r"|(?=[\w-]*\d)[\w-]{12,}"
    r"|\d{9,}"
)


def of_sender(sender: str, refusal: Outcome) -> str:
    """Return the pattern of a refusal at MAIL; empty where the message is refused for its size."""
    if not isinstance(refusal, Permanent) or refusal.code == "552" or _TOO_BIG.match(refusal.text):
        return ""
    return f"sender:{_digest(normalise(sender))}:{refusal.code}"


def of_answer(status: int, code: str, body: str) -> str:
    """Return the pattern of a refusal over HTTP: the same for bodies that differ in ids and moments only."""
    if status not in SYSTEMATIC:
        return ""
    said = _CHANGING.sub(lambda found: found["address"] or "#", " ".join(body.split()))
    return f"http:{status}:{_digest(f'{code} {said}')}"


def _digest(text: str) -> str:
    # Short, because many of them may be kept, and never the text itself: it may hold an address.
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
