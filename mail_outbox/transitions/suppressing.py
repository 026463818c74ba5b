"""The list of addresses not to write to: asked, written to by people, and fed by what providers say."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import F

from mail_outbox.models import TEXT_LENGTH, Suppression, UtcNow, names_of

NAMES_AT_ONCE = 5_000
"""For how many names one statement asks; SQLite takes some 30,000 parameters."""


def suppressed_among(addresses: Iterable[str], *, database: str) -> dict[str, datetime | None]:
    """Return those of the normalised addresses that are suppressed now, each with until when; None is for ever.

    One query by the index, also where the list has a pseudonym in place of the address.
    """
    names = names_of(addresses)
    found: dict[str, datetime | None] = {}
    for batch in _in_parts(list(names)):
        rows = Suppression.objects.using(database).in_force().filter(address__in=batch)
        for name, until in rows.order_by(F("until").asc(nulls_last=True)).values_list("address", "until"):
            # MySQL compares more loosely than we do.
            if name in names:
                found[names[name]] = until
    return found


def suppress(
    addresses: Mapping[str, str], *, until: datetime | timedelta | None = None, anew: bool = True, database: str
) -> None:
    """Put the normalised addresses on the list, each for its reason.

    What is there already keeps its beginning and gets the new reason and end, or where it is not to be written `anew` stays
    as it is.
    """
    rows = Suppression.objects.using(database)
    # Sorted, so that two who write the same ones do not lock them crosswise.
    ordered = sorted(addresses)
    rows.filter(address__in=ordered, until__lte=UtcNow()).delete()
    conflict: dict[str, Any] = {"ignore_conflicts": True}
    if anew:
        conflict = {"update_conflicts": True, "update_fields": ["reason", "until"]}
        if connections[database].features.supports_update_conflicts_with_target:
            conflict["unique_fields"] = ["address"]
    end = UtcNow() + until if isinstance(until, timedelta) else until
    rows.bulk_create(
        [
            Suppression(address=each, reason=addresses[each][:TEXT_LENGTH], since=UtcNow(), until=end)
            for each in ordered
        ],
        **conflict,
    )


def feed(refused: Mapping[str, str], *, database: str) -> None:
    """Put what a provider writes to no more on the list, each normalised address for its reason, unless it stands there."""
    if refused:
        known = suppressed_among(refused, database=database)
        fresh = {address: reason for address, reason in refused.items() if address not in known}
        if fresh:
            suppress(fresh, anew=False, database=database)


def unsuppress(address: str, *, database: str) -> int:
    """Take the address, or its pseudonyms, off the list, and return how many rows that were."""
    return Suppression.objects.using(database).of(address).delete()[0]


def is_anybody_suppressed(*, database: str) -> bool:
    """Tell whether anything stands on the list."""
    return Suppression.objects.using(database).exists()


def _in_parts(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), NAMES_AT_ONCE):
        yield names[start : start + NAMES_AT_ONCE]
