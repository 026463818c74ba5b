"""What people do to entries: cancel, hold, release, retry, reschedule, mark as sent, change the mailer."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import connections, transaction
from django.db.models import Case, DateTimeField, F, Q, QuerySet, When

from mail_outbox.core.outcomes import SUPPRESSED
from mail_outbox.core.states import MOVABLE, WAITING, State, Verb, sources
from mail_outbox.models import TEXT_LENGTH, OutboxEntry, Recipient, RecipientStatus, UtcNow
from mail_outbox.transitions.forgetting import forget_sensitive
from mail_outbox.transitions.locking import in_batches


def cancel(keys: Iterable[int], *, reason: str, database: str) -> int:
    """Stop what no sender has, and return how many were really stopped."""
    return sum(_cancel(batch, reason, database) for batch in in_batches(keys))


def _cancel(keys: list[int], reason: str, database: str) -> int:
    with _locked(keys, database):
        count = _from(Verb.CANCEL, keys, database).update(
            state=State.CANCELLED, state_reason=reason[:TEXT_LENGTH], finished_at=UtcNow()
        )
        forget_sensitive(keys, database=database)
        return count


def hold(keys: Iterable[int], *, reason: str, database: str) -> int:
    """Set aside what is waiting, and return how many."""
    count = 0
    for batch in in_batches(keys):
        with _locked(batch, database):
            count += _from(Verb.HOLD, batch, database).update(
                state=State.HELD, state_reason=reason[:TEXT_LENGTH], finished_at=UtcNow()
            )
    return count


def release(keys: Iterable[int], *, database: str) -> int:
    """Put back what is held, due now, and return how many."""
    count = 0
    for batch in in_batches(keys):
        with _locked(batch, database):
            count += _from(Verb.RELEASE, batch, database).update(
                state=State.QUEUED, state_reason="", due_at=UtcNow(), first_due_at=UtcNow(), finished_at=None
            )
    return count


def retry(keys: Iterable[int], *, allowed: int, expires_at: datetime | timedelta | None, database: str) -> int:
    """Put back what has ended without success, with `allowed` attempts more, and return how many.

    What has lost its content stays where it is. What is past its expiry is only put back with a new one; the count of attempts never starts again.
    """
    new_expiry = UtcNow() + expires_at if isinstance(expires_at, timedelta) else expires_at
    changes: dict[str, object] = {} if new_expiry is None else {"expires_at": new_expiry}
    count = 0
    for batch in in_batches(keys):
        with _locked(batch, database):
            entries = _from(Verb.RETRY, batch, database).filter(has_content=True)
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
    first_due_at = Case(When(may_be_out, then=F("first_due_at")), default=moment, output_field=DateTimeField())
    count = 0
    for batch in in_batches(keys):
        with _locked(batch, database):
            entries = _from(Verb.RESCHEDULE, batch, database).filter(Q(expires_at=None) | Q(expires_at__gt=moment))
            count += entries.update(
                first_due_at=first_due_at,  # first, because MySQL would see the new state already
                state=State.SCHEDULED,
                state_reason="",
                due_at=moment,
                finished_at=None,
            )
    return count


def mark_sent(keys: Iterable[int], *, reason: str, database: str) -> int:
    """Settle what is held as sent, by a person who knows, and return how many."""
    count = 0
    for batch in in_batches(keys):
        with _locked(batch, database):
            held = list(_from(Verb.MARK_SENT, batch, database).select_for_update().values_list("pk", flat=True))
            count += _from(Verb.MARK_SENT, held, database).update(
                state=State.SENT, state_reason=reason[:TEXT_LENGTH], finished_at=UtcNow()
            )
            open_ones = Recipient.objects.using(database).filter(entry_id__in=held, status=RecipientStatus.OPEN)
            open_ones.update(status=RecipientStatus.ACCEPTED)
            forget_sensitive(held, database=database)
    return count


def change_mailer(keys: Iterable[int], *, using: str, database: str) -> int:
    """Let another mailer, and no other, send what has not gone yet, and return how many entries it was given."""
    count = 0
    for batch in in_batches(keys):
        with _locked(batch, database):
            movable = OutboxEntry.objects.using(database).filter(pk__in=batch, state__in=MOVABLE)
            count += movable.exclude(using=using).update(using=using, route="")
    return count


@contextmanager
def _locked(keys: list[int], database: str) -> Iterator[None]:
    """Be in a transaction in which nobody else changes these entries, where the database needs to be told."""
    with transaction.atomic(using=database):
        if connections[database].vendor == "mysql":
            # InnoDB may come to an entry by an index of states, and two who come by different ones deadlock.
            entries = OutboxEntry.objects.using(database).filter(pk__in=keys).order_by("pk")
            list(entries.select_for_update().values_list("pk", flat=True))
        yield


def _from(verb: Verb, keys: list[int], database: str) -> QuerySet[OutboxEntry]:
    return OutboxEntry.objects.using(database).filter(pk__in=keys, state__in=sources(verb))
