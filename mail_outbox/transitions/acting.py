"""What people do to entries: cancel, hold, release, retry."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet

from mail_outbox.core.states import State, Verb, sources
from mail_outbox.models import TEXT_LENGTH, OutboxEntry, Recipient, RecipientStatus, UtcNow
from mail_outbox.transitions.locking import in_batches


def cancel(keys: Iterable[int], *, reason: str, database: str) -> int:
    """Stop what no sender has, and return how many were really stopped."""
    return sum(
        _from(Verb.CANCEL, batch, database).update(
            state=State.CANCELLED, state_reason=reason[:TEXT_LENGTH], finished_at=UtcNow()
        )
        for batch in in_batches(keys)
    )


def hold(keys: Iterable[int], *, reason: str, database: str) -> int:
    """Set aside what is waiting, and return how many."""
    return sum(
        _from(Verb.HOLD, batch, database).update(
            state=State.HELD, state_reason=reason[:TEXT_LENGTH], finished_at=UtcNow()
        )
        for batch in in_batches(keys)
    )


def release(keys: Iterable[int], *, database: str) -> int:
    """Put back what is held, due now, and return how many."""
    return sum(
        _from(Verb.RELEASE, batch, database).update(
            state=State.QUEUED, state_reason="", due_at=UtcNow(), finished_at=None
        )
        for batch in in_batches(keys)
    )


def retry(keys: Iterable[int], *, allowed: int, expires_at: datetime | timedelta | None, database: str) -> int:
    """Put back what has ended without success, with `allowed` attempts more, and return how many.

    What is past its expiry is only put back with a new one; the count of attempts never starts again.
    """
    new_expiry = UtcNow() + expires_at if isinstance(expires_at, timedelta) else expires_at
    changes: dict[str, object] = {} if new_expiry is None else {"expires_at": new_expiry}
    count = 0
    for batch in in_batches(keys):
        with transaction.atomic(using=database):
            entries = _from(Verb.RETRY, batch, database)
            if new_expiry is None:
                entries = entries.filter(Q(expires_at=None) | Q(expires_at__gt=UtcNow()))
            ready = list(entries.select_for_update().values_list("pk", flat=True))
            count += _from(Verb.RETRY, ready, database).update(
                state=State.QUEUED,
                state_reason="",
                due_at=UtcNow(),
                first_due_at=UtcNow(),
                max_attempts=F("attempts") + allowed,
                finished_at=None,
                **changes,
            )
            refused = Recipient.objects.using(database).filter(entry_id__in=ready, status=RecipientStatus.REFUSED)
            refused.update(status=RecipientStatus.OPEN)
    return count


def _from(verb: Verb, keys: list[int], database: str) -> QuerySet[OutboxEntry]:
    return OutboxEntry.objects.using(database).filter(pk__in=keys, state__in=sources(verb))
