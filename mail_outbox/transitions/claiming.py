"""From waiting to sending: promote what is due, expire what is too late, claim what can start now."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.db import connections, transaction
from django.db.models import BooleanField, ExpressionWrapper, F, Q

from mail_outbox.core.states import State, Verb, sources
from mail_outbox.models import OutboxEntry, UtcNow
from mail_outbox.transitions.locking import lock_free_rows

PROMOTE_BATCH = 1000
EXPIRY_PASSED = "past its expiry"


def promote(*, database: str, limit: int = PROMOTE_BATCH) -> int:
    """Move what has become due to `queued`, and return how many."""
    if not OutboxEntry.objects.using(database).due_to_promote().exists():
        return 0
    with transaction.atomic(using=database):
        due = OutboxEntry.objects.using(database).due_to_promote().order_by("due_at", "pk")
        keys = [key for (key,) in lock_free_rows(due, limit, "pk")]
        return (
            OutboxEntry.objects.using(database)
            .filter(pk__in=keys, state__in=sources(Verb.PROMOTE))
            .update(state=State.QUEUED)
            if keys
            else 0
        )


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
    return (
        OutboxEntry.objects.using(database)
        .filter(pk__in=keys, state__in=sources(Verb.EXPIRE))
        .update(state=State.EXPIRED, state_reason=EXPIRY_PASSED, finished_at=UtcNow())
    )


def claim(
    mailer: str, room: int, *, claim_id: UUID, oldest: int = 0, worker: str, lease: timedelta, database: str
) -> list[int]:
    """Take up to `room` of the mailer's queued entries for senders that are free now, and return their primary keys.

    Higher priority first, then first due first; `oldest` of the places go to whatever has waited longest, so that
    nothing starves. This is the write-ahead mark: what is not `sending` has provably not gone out.
    """
    with transaction.atomic(using=database):
        queued = (
            OutboxEntry.objects.using(database)
            .queued(mailer)
            .annotate(is_over=ExpressionWrapper(Q(expires_at__lte=UtcNow()), output_field=BooleanField()))
        )
        rows = lock_free_rows(queued.order_by("rank", "due_at", "pk"), room - oldest, "pk", "is_over")
        if oldest and len(rows) == room - oldest:
            taken = [key for key, _ in rows]
            rows += lock_free_rows(queued.exclude(pk__in=taken).order_by("due_at", "pk"), oldest, "pk", "is_over")
        over = [key for key, is_over in rows if is_over]
        if over:
            _expire(over, database)
        keys = [key for key, is_over in rows if not is_over]
        return _mark(keys, claim_id, worker, lease, database)


def claim_entry(entry: OutboxEntry, *, claim_id: UUID, worker: str, lease: timedelta, database: str) -> None:
    """Take this one queued entry, in the caller's transaction."""
    _mark([entry.pk], claim_id, worker, lease, database)


def _mark(keys: Sequence[int], claim_id: UUID, worker: str, lease: timedelta, database: str) -> list[int]:
    if not keys:
        return []
    entries = OutboxEntry.objects.using(database)
    marked = entries.filter(pk__in=keys, state__in=sources(Verb.CLAIM)).update(
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
