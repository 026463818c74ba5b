"""Rows in batches and in one order, locked so that workers pass each other by."""

from collections.abc import Iterable
from typing import Any

from django.db import InterfaceError, InternalError, OperationalError, connections

from mail_outbox.models.entry import EntryQuerySet

DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)
"""What Django raises when the database is away, locked, deadlocked, or has become a read-only replica."""
BATCH = 500
"""How many rows one statement writes at the most."""


def in_batches(keys: Iterable[int]) -> list[list[int]]:
    """Split primary keys into lists of at most BATCH, in ascending order, so that locks are taken in one order."""
    ordered = sorted(set(keys))
    return [ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH)]


def lock_free_rows(entries: EntryQuerySet, limit: int, *columns: str) -> list[Any]:
    """Lock up to `limit` of the entries that nobody else holds, and return their columns.

    Evaluated here and now: as a subquery of an UPDATE the database may run it twice and take more than the limit.
    SQLite has no row locks; there the transaction itself (IMMEDIATE) keeps others out, and every UPDATE that follows
    checks the state once more.
    """
    features = connections[entries.db].features
    locked = entries.select_for_update(
        skip_locked=features.has_select_for_update_skip_locked,
        # Does not fight the foreign keys of the attempts that other workers insert.
        no_key=features.has_select_for_no_key_update,
    )
    return list(locked.values_list(*columns)[:limit])
