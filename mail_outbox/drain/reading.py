"""A claim read: each entry with what its attempt needs, or with why that cannot be had."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.db import Error as DjangoDatabaseError

from mail_outbox.core.envelope import Envelope, blob_names
from mail_outbox.core.errors import UndecryptableContent, UnreadableEnvelope
from mail_outbox.core.retry import History
from mail_outbox.drain.addressing import is_list_there, read_recipients_left, read_suppressed
from mail_outbox.drain.slots import Departure
from mail_outbox.drain.work import Job, unreadable
from mail_outbox.models import OutboxEntry, UtcNow, read_blobs
from mail_outbox.transitions.histories import read_histories

NO_ENTRYS_FAULT = (DjangoDatabaseError, MemoryError)
"""What says nothing about the entry that was being read."""
NEEDED = ("using", "attempts", "on_ambiguous", "outcome_kind", "sensitive")
"""What must be known of an entry to set it aside."""

Departures = Callable[[int], Departure | None]


def read_jobs(
    claim_id: UUID,
    keys: Collection[int] | None = None,
    *,
    deadline: timedelta,
    lease_until: float,
    departures: Departures = lambda _: None,
    database: str,
) -> list[Job]:
    """Read the contents of a claim in one query, and one more each for attachments, earlier attempts and suppressions.

    The keys only make it faster: the claim's id alone says what is ours. `departures` knows them by primary key. An entry
    that cannot be read, for whatever reason, is a job too, whose envelope says so; what is no entry's fault is raised.
    """
    make = partial(Job, claim_id=claim_id, deadline=deadline, lease_until=lease_until)
    try:
        return _read(claim_id, keys, make, departures, database)
    except NO_ENTRYS_FAULT:
        raise
    except Exception:  # noqa: BLE001 - logged below, of the entry that has raised it
        claimed = OutboxEntry.objects.using(database).claimed(claim_id).order_by("rank", "due_at", "pk")
        each = claimed.values_list("pk", flat=True)
        return [job for key in each for job in _read_alone(claim_id, key, make, departures, database)]


def _read_alone(claim_id: UUID, key: int, make: Callable[..., Job], departures: Departures, database: str) -> list[Job]:
    """Read one entry that may be what made the others unreadable; as it is the only one, it must be the one."""
    try:
        return _read(claim_id, [key], make, departures, database)
    except NO_ENTRYS_FAULT:
        raise
    except Exception as error:  # noqa: BLE001 - a row, or a vault of the project's, can raise anything
        claimed = OutboxEntry.objects.using(database).claimed(claim_id).filter(pk=key)
        # Nothing but that: what is damaged may be a column of the row itself.
        bare = claimed.only(*NEEDED).annotate(now=UtcNow())
        read_at = time.monotonic()
        return [
            make(
                entry=entry,
                envelope=unreadable(entry, error),
                metadata=None,
                history=History(attempts=entry.attempts, age=timedelta(0)),
                only=None,
                now=entry.now,
                read_at=read_at,
                departure=departures(key),
            )
            for entry in bare
        ]


def _read(
    claim_id: UUID, keys: Collection[int] | None, make: Callable[..., Job], departures: Departures, database: str
) -> list[Job]:
    read_at = time.monotonic()
    entries = _read_entries(claim_id, keys, database)
    if not entries:
        return []
    now = vars(entries[0])["now"]
    histories = read_histories(entries, now=now, database=database)
    recipients_left = read_recipients_left(entries, database=database)
    envelopes, metadata = _read_contents(entries, database)
    suppressed = read_suppressed(entries, envelopes, recipients_left, database=database)
    return [
        make(
            entry=entry,
            envelope=envelopes[entry.pk],
            metadata=metadata.get(entry.pk),
            history=histories[entry.pk],
            only=recipients_left.get(entry.pk),
            suppressed=suppressed.get(entry.pk, frozenset()),
            now=now,
            read_at=read_at,
            departure=departures(entry.pk),
            traceparent="" if isinstance(envelopes[entry.pk], UnreadableEnvelope) else entry.content.traceparent,
        )
        for entry in entries
    ]


def _read_entries(claim_id: UUID, keys: Collection[int] | None, database: str) -> list[OutboxEntry]:
    """Return the entries of the claim in the order they go out, with the database's clock and whether anybody is suppressed."""
    claimed = OutboxEntry.objects.using(database).claimed(claim_id)
    if keys is not None:
        claimed = claimed.filter(pk__in=list(keys))
    claimed = claimed.select_related("content").annotate(now=UtcNow(), is_list_there=is_list_there(database))
    return list(claimed.order_by("rank", "due_at", "pk"))


def _read_contents(
    entries: Sequence[OutboxEntry], database: str
) -> tuple[dict[int, Envelope | UnreadableEnvelope], dict[int, Mapping[str, Any] | None]]:
    """Return the envelope of each entry, or why it cannot be read, and the metadata."""
    opened: dict[int, tuple[dict[str, Any], frozenset[str], Mapping[str, Any] | None]] = {}
    troubles: dict[int, UnreadableEnvelope] = {}
    for entry in entries:
        try:
            entry.content.forget_entry()
            payload, metadata = entry.content.opened()
            opened[entry.pk] = payload, blob_names(payload), metadata
        except UndecryptableContent as error:
            troubles[entry.pk] = error
        # A payload that no version of ours has written may be nested as deeply as it likes.
        except (ObjectDoesNotExist, RecursionError):
            troubles[entry.pk] = UnreadableEnvelope("the content is gone, or damaged")
    wanted = frozenset().union(*(names for _, names, _ in opened.values()))
    blobs = read_blobs(wanted, database=database)
    envelopes = {
        key: Envelope(payload, {name: blobs[name] for name in names if name in blobs})
        for key, (payload, names, _) in opened.items()
    }
    return {**envelopes, **troubles}, {key: metadata for key, (_, _, metadata) in opened.items()}
