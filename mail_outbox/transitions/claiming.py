"""From waiting to sending: promote what is due, expire what is too late, claim what can start now."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.db.models import BooleanField, ExpressionWrapper, F, Q

from mail_outbox.core.states import State, Verb, sources
from mail_outbox.models import OutboxEntry, UtcNow
from mail_outbox.models.entry import EntryQuerySet
from mail_outbox.transitions.forgetting import forget_sensitive
from mail_outbox.transitions.locking import change, lock_free_rows

PROMOTE_BATCH = 1000
EXPIRY_PASSED = "past its expiry"
NOBODY = range(0)
MAY_WAIT = Q(attempts=0, outcome_kind="", on_ambiguous="retry")


def promote(*, database: str, limit: int = PROMOTE_BATCH) -> int:
    """Move what has become due to `queued`, and return how many."""
    if not OutboxEntry.objects.using(database).due_to_promote().exists():
        return 0
    with transaction.atomic(using=database):
        due = OutboxEntry.objects.using(database).due_to_promote().order_by("due_at", "pk")
        keys = [key for (key,) in lock_free_rows(due, limit, "pk")]
        can_be = Q(state__in=sources(Verb.PROMOTE))
        return change(keys, can_be, database=database, state=State.QUEUED) if keys else 0


def expire(*, database: str, limit: int = PROMOTE_BATCH) -> int:
    """Move what is past its expiry to `expired`, and return how many."""
    return sum(_expire_from(state, limit, database) for state in sorted(sources(Verb.EXPIRE)))


def _expire_from(state: State, limit: int, database: str) -> int:
    over = OutboxEntry.objects.using(database).due_to_expire(state)
    if not over.exists():
        return 0
    with transaction.atomic(using=database):
        keys = [key for (key,) in lock_free_rows(over.order_by("expires_at", "pk"), limit, "pk")]
        return _expire(keys, database) if keys else 0


def _expire(keys: Sequence[int], database: str) -> int:
    can_be = Q(state__in=sources(Verb.EXPIRE))
    count = change(
        keys, can_be, database=database, state=State.EXPIRED, state_reason=EXPIRY_PASSED, finished_at=UtcNow()
    )
    forget_sensitive(keys, database=database)
    return count


def claim(
    mailer: str,
    room: int,
    *,
    claim_id: UUID,
    oldest: range = NOBODY,
    ahead: int = 0,
    worker: str,
    lease: timedelta,
    database: str,
    fit: Callable[[list[int]], list[int]] | None = None,
) -> list[int]:
    """Take up to `room` of the mailer's queued entries for senders that are free now, and return their primary keys.

    Higher priority first, then first due first; the places `oldest`, counted from 0, go to whatever has waited longest, so
    that nothing starves; `fit` may leave some of them where they are. So many more are taken `ahead`, up to the first that
    must not wait and that nothing overtakes: tried before, or not to be repeated where nobody knows. This is the
    write-ahead mark: what is not `sending` has provably not gone out.
    """
    with transaction.atomic(using=database, savepoint=False):
        queued = (
            OutboxEntry.objects.using(database)
            .queued(mailer)
            .annotate(
                is_over=ExpressionWrapper(Q(expires_at__lte=UtcNow()), output_field=BooleanField()),
                may_wait=ExpressionWrapper(MAY_WAIT, output_field=BooleanField()),
            )
        )
        rows = _in_line(queued, room + ahead, oldest)
        over = [key for key, is_over, _ in rows if is_over]
        if over:
            _expire(over, database)
        there = [(key, may_wait) for key, is_over, may_wait in rows if not is_over]
        keys = [key for key, _ in there[:room]]
        keys += [key for key, _ in takewhile(lambda row: row[1], there[room:])]
        return _mark(keys if fit is None else fit(keys), claim_id, worker, lease, database)


def _in_line(queued: EntryQuerySet, count: int, oldest: range) -> list[Any]:
    """Lock up to so many of the entries and return what is asked of them in their order, the oldest in their places."""
    columns, most = ("pk", "is_over", "may_wait"), count - len(oldest)
    rows = lock_free_rows(queued.order_by("rank", "due_at", "pk"), most, *columns)
    if oldest and len(rows) == most:
        others = queued.exclude(pk__in=[row[0] for row in rows]).order_by("due_at", "pk")
        for place, row in zip(oldest, lock_free_rows(others, len(oldest), *columns), strict=False):
            rows.insert(place, row)
    return rows


def may_wait(entry: OutboxEntry) -> bool:
    """Tell whether a claimed entry may wait for a sender: nothing comes of it if the worker is lost but a repetition."""
    return entry.attempts == 1 and not entry.outcome_kind and entry.on_ambiguous == "retry"


def claim_entry(entry: OutboxEntry, *, claim_id: UUID, worker: str, lease: timedelta, database: str) -> None:
    """Take this one queued entry, in the caller's transaction."""
    _mark([entry.pk], claim_id, worker, lease, database)


def _mark(keys: Sequence[int], claim_id: UUID, worker: str, lease: timedelta, database: str) -> list[int]:
    if not keys:
        return []
    entries = OutboxEntry.objects.using(database)
    marked = change(
        keys,
        Q(state__in=sources(Verb.CLAIM)),
        database=database,
        state=State.SENDING,
        claim_id=claim_id,
        worker=worker,
        lease_expires_at=UtcNow() + lease,
        attempts=F("attempts") + 1,
    )
    if marked == len(keys) or connections[database].features.has_select_for_update_skip_locked:
        return list(keys)
    # Without row locks another worker may have been faster: only the claim id says what is ours.
    return list(entries.filter(pk__in=keys, claim_id=claim_id).values_list("pk", flat=True))
