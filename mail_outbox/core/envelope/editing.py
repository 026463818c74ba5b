"""The recipients in a payload, and a payload without one of them."""

from collections.abc import Callable, Iterator
from typing import Any

from mail_outbox.core.addresses import ROLES
from mail_outbox.core.envelope.kinds import JSON


def recipients_of(payload: dict[str, Any]) -> Iterator[str]:
    """Yield whom the message is for, as it was written; nothing for what is damaged."""
    match payload:
        case {"fields": dict() as fields}:
            for role in ROLES:
                yield from _texts(fields.get(role))


def _texts(packed: Any) -> Iterator[str]:
    match packed:
        case list() as items:
            yield from (item for item in items if isinstance(item, str))
        case {"items": list() as items}:
            yield from _texts(items)
        case str():
            yield packed


def without_recipient(payload: dict[str, Any], is_meant: Callable[[str], bool]) -> dict[str, JSON]:
    """Return the payload without the recipient, and without what is kept for it (Anymail's `merge_data` and the like)."""
    fields = {
        name: _without_items(value, is_meant) if name in ROLES else _without_pairs(value, is_meant)
        for name, value in payload["fields"].items()
    }
    return {**payload, "fields": fields}


def _without_items(packed: Any, is_meant: Callable[[str], bool]) -> Any:
    match packed:
        case list():
            return [item for item in packed if not (isinstance(item, str) and is_meant(item))]
        case {"items": list() as items}:
            return {**packed, "items": _without_items(items, is_meant)}
    return packed


def _without_pairs(packed: Any, is_meant: Callable[[str], bool]) -> Any:
    match packed:
        case {"type": "dict", "items": list() as pairs}:
            kept = [pair for pair in pairs if not (isinstance(pair[0], str) and is_meant(pair[0]))]
            return {**packed, "items": kept}
    return packed
