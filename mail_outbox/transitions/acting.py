"""What people do to entries: cancel, hold, release, retry, reschedule, mark as sent, change the mailer."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, DateTimeField, F, Q, When

from mail_outbox.core.outcomes import SUPPRESSED
from mail_outbox.core.states import MOVABLE, WAITING, State, Verb, sources
from mail_outbox.models import TEXT_LENGTH, Recipient, RecipientStatus, UtcNow
from mail_outbox.transitions.forgetting import forget_sensitive
from mail_outbox.transitions.locking import ANY, among, change, in_batches, locked


def cancel(keys: Iterable[int], *, reason: str, database: str) -> int:
    """Stop what no sender has, and return how many were really stopped."""
    return sum(_cancel(batch, reason, database) for batch in in_batches(keys))


def _cancel(keys: list[int], reason: str, database: str) -> int:
    can_be = Q(state__in=sources(Verb.CANCEL))
    with locked(keys, can_be, database=database) as ready:
        count = change(
            ready,
            can_be,
            database=database,
            state=State.CANCELLED,
            state_reason=reason[:TEXT_LENGTH],
            finished_at=UtcNow(),
        )
        forget_sensitive(ready, database=database)
        return count


def hold(keys: Iterable[int], *, reason: str, database: str) -> int:
    """Set aside what is waiting, and return how many."""
    return _change(
        keys,
        Q(state__in=sources(Verb.HOLD)),
        database,
        state=State.HELD,
        state_reason=reason[:TEXT_LENGTH],
        finished_at=UtcNow(),
    )


def release(keys: Iterable[int], *, database: str) -> int:
    """Put back what is held, due now, and return how many."""
    return _change(
        keys,
        Q(state__in=sources(Verb.RELEASE)),
        database,
        state=State.QUEUED,
        state_reason="",
        due_at=UtcNow(),
        first_due_at=UtcNow(),
        finished_at=None,
    )


def retry(keys: Iterable[int], *, allowed: int, expires_at: datetime | timedelta | None, database: str) -> int:
    """Put back what has ended without success, with `allowed` attempts more, and return how many.

    What has lost its content stays where it is. What is past its expiry is only put back with a new one; the count of attempts never starts again.
    """
    new_expiry = UtcNow() + expires_at if isinstance(expires_at, timedelta) else expires_at
    changes: dict[str, object] = {} if new_expiry is None else {"expires_at": new_expiry}
    is_in_time = Q(expires_at=None) | Q(expires_at__gt=UtcNow()) if new_expiry is None else ANY
    can_be = Q(state__in=sources(Verb.RETRY), has_content=True) & is_in_time
    count = 0
    for batch in in_batches(keys):
        with locked(batch, can_be, database=database) as ready:
            found = among(ready, can_be, database=database).order_by("pk").select_for_update()
            ready = list(found.values_list("pk", flat=True))
            count += change(
                ready,
                ANY,
                database=database,
                state=State.QUEUED,
                state_reason="",
                due_at=UtcNow(),
                first_due_at=UtcNow(),
                max_attempts=F("attempts") + allowed,
                finished_at=None,
                **changes,
            )
            recipients = Recipient.objects.using(database).filter(entry_id__in=ready)
            recipients.filter(status=RecipientStatus.REFUSED).update(status=RecipientStatus.OPEN)
            # The list is asked again; whom the guard has kept it from is another matter.
            left_out = recipients.filter(status=RecipientStatus.SUPPRESSED, code=SUPPRESSED)
            left_out.update(status=RecipientStatus.OPEN, code="")
    return count


def reschedule(keys: Iterable[int], *, due_at: datetime | timedelta, database: str) -> int:
    """Give what has not gone yet another time, and return how many; what would be past its expiry then stays as it is."""
    moment = UtcNow() + due_at if isinstance(due_at, timedelta) else due_at
    # What may be out and waits to be repeated under its key is not forgotten for being put off; who puts back what is held knows.
    may_be_out = Q(state__in=WAITING, on_ambiguous="hold", recognised_until__isnull=False)
    is_in_time = Q(expires_at=None) | Q(expires_at__gt=moment)
    return _change(
        keys,
        Q(state__in=sources(Verb.RESCHEDULE)) & is_in_time,
        database,
        # First, because MySQL would see the new state already.
        first_due_at=Case(When(may_be_out, then=F("first_due_at")), default=moment, output_field=DateTimeField()),
        state=State.SCHEDULED,
        state_reason="",
        due_at=moment,
        finished_at=None,
    )


def mark_sent(keys: Iterable[int], *, reason: str, database: str) -> int:
    """Settle what is held as sent, by a person who knows, and return how many."""
    can_be = Q(state__in=sources(Verb.MARK_SENT))
    count = 0
    for batch in in_batches(keys):
        with locked(batch, can_be, database=database) as ready:
            found = among(ready, can_be, database=database).order_by("pk").select_for_update()
            held = list(found.values_list("pk", flat=True))
            count += change(
                held, ANY, database=database, state=State.SENT, state_reason=reason[:TEXT_LENGTH], finished_at=UtcNow()
            )
            open_ones = Recipient.objects.using(database).filter(entry_id__in=held, status=RecipientStatus.OPEN)
            open_ones.update(status=RecipientStatus.ACCEPTED)
            forget_sensitive(held, database=database)
    return count


def change_mailer(keys: Iterable[int], *, using: str, database: str) -> int:
    """Let another mailer, and no other, send what has not gone yet, and return how many entries it was given."""
    return _change(keys, Q(state__in=MOVABLE) & ~Q(using=using), database, using=using, route="")


def _change(keys: Iterable[int], condition: Q, database: str, **changes: Any) -> int:
    count = 0
    for batch in in_batches(keys):
        with locked(batch, condition, database=database) as ready:
            count += change(ready, condition, database=database, **changes)
    return count
