"""What becomes of entries by a caller's word: cancel, hold, release, retry, resend, and the rarer ones."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.core.errors import InvalidOption, UnreadableEnvelope, WrongState
from mail_outbox.core.retry import OnAmbiguous
from mail_outbox.core.states import FINISHED, MOVABLE, RETRYABLE
from mail_outbox.models import OutboxEntry, UtcNow
from mail_outbox.outbox.announcing import after_commit
from mail_outbox.outbox.enqueueing import check_transaction, make_draft, write
from mail_outbox.outbox.options import check_mailer, check_moment, check_options
from mail_outbox.outbox.twins import has_twin


@has_twin
def cancel(*entries: OutboxEntry, reason: str = "by hand") -> int:
    """Stop what no sender has yet, and return how many were really stopped."""
    return sum(transitions.cancel(keys, reason=reason, database=database) for database, keys in _by_database(entries))


@has_twin
def hold(*entries: OutboxEntry, reason: str) -> int:
    """Set aside what is still waiting, with a reason for the person who finds it, and return how many."""
    return sum(transitions.hold(keys, reason=reason, database=database) for database, keys in _by_database(entries))


@has_twin
def release(*entries: OutboxEntry) -> int:
    """Put back what is held, to be sent now, and return how many."""
    count = 0
    for database, keys in _by_database(entries):
        count += transitions.release(keys, database=database)
        after_commit(database=database)
    return count


@has_twin
def retry(*entries: OutboxEntry, expires_at: datetime | timedelta | None = None) -> int:
    """Send the same entries once more, under the same Message-ID, and return how many were put back.

    Only what is failed, held, expired or cancelled, and still has its content, is put back. Raises InvalidOption where an entry is past its expiry
    and no new `expires_at` is given; nothing is changed then.
    """
    check_moment("expires_at", expires_at)
    groups = _by_database(entries)
    if expires_at is None:
        for database, keys in groups:
            _refuse_what_is_over(keys, database)
    count = 0
    for database, keys in groups:
        allowed = settings.get_conf().max_attempts
        count += transitions.retry(keys, allowed=allowed, expires_at=expires_at, database=database)
        after_commit(database=database)
    return count


@has_twin
def resend(
    entry: OutboxEntry,
    *,
    to: Sequence[str] | None = None,
    using: str | None = None,
    idempotency_key: str | None = None,
) -> OutboxEntry:
    """Send the content again as a new entry that is linked to the old one, and return the new one.

    It goes by the route of the old one, if that is still there, else through its mailer, or as `using` says. `to` replaces
    all recipients, cc and bcc included. Raises WrongState unless the entry has finished,
    UnreadableEnvelope where its content is gone, and what `enqueue` raises.
    """
    _check_copy(entry, to)
    database = entry._state.db or settings.get_conf().databases[0]
    entry.refresh_from_db(using=database)
    if entry.state not in FINISHED:
        raise WrongState(f"Entry {entry.pk} is '{entry.state}'; only a finished entry can be sent again.")
    message = entry.message()
    message.extra_headers = {
        name: value for name, value in message.extra_headers.items() if name.lower() not in {"message-id", "date"}
    }
    if to is not None:
        message.to, message.cc, message.bcc = list(to), [], []
    on_ambiguous: OnAmbiguous = "hold" if entry.on_ambiguous == "hold" else "retry"
    options = check_options(
        using=using or (entry.route if settings.get_conf().route(entry.route) else entry.using),
        priority=entry.priority,
        idempotency_key=idempotency_key,
        on_ambiguous=on_ambiguous,
        tags=entry.tags,
        metadata=entry.content.opened()[1],
        sensitive=entry.sensitive,
        ignore_suppression=entry.ignore_suppression,
        database=database,
    )
    draft = make_draft(message, options)
    draft.entry.resent_from = entry
    draft.entry.related, draft.entry.template = entry.related, entry.template
    check_transaction(database)
    with transaction.atomic(using=database):
        if not transitions.share_entry(entry.pk, database=database):
            raise UnreadableEnvelope(
                f"Entry {entry.pk} has been pruned meanwhile: there is nothing left to send again."
            )
        return write(draft, options)


@has_twin
def reschedule(*entries: OutboxEntry, send_at: datetime | timedelta) -> int:
    """Send what has not gone yet, or is held, at another time, and return how many were given it.

    Raises InvalidOption where an entry would be past its expiry by then; nothing is changed then.
    """
    if send_at is None:
        raise InvalidOption("send_at must be an aware datetime or a timedelta, not None.")
    check_moment("send_at", send_at)
    groups = _by_database(entries)
    for database, keys in groups:
        _refuse_what_would_expire(keys, send_at, database)
    count = 0
    for database, keys in groups:
        count += transitions.reschedule(keys, due_at=send_at, database=database)
        after_commit(database=database)
    return count


@has_twin
def mark_sent(*entries: OutboxEntry, reason: str = "marked as sent by hand") -> int:
    """Settle what is held as sent, for a person who knows that it has arrived, and return how many."""
    return sum(
        transitions.mark_sent(keys, reason=reason, database=database) for database, keys in _by_database(entries)
    )


@has_twin
def change_mailer(*entries: OutboxEntry, using: str) -> int:
    """Let another mailer send what has not gone yet, or is held, and return how many entries changed hands.

    Raises UnknownMailer.
    """
    alias, count = check_mailer(using), 0
    for database, keys in _by_database(entries):
        count += transitions.change_mailer(keys, using=alias, database=database)
        after_commit(database=database)
    return count


def _by_database(entries: Iterable[OutboxEntry]) -> list[tuple[str, list[int]]]:
    """Group the entries by the database they live in."""
    groups: dict[str, list[int]] = defaultdict(list)
    for entry in entries:
        if not isinstance(entry, OutboxEntry):
            raise InvalidOption(
                f"Expected outbox entries, not {type(entry).__name__}; unpack a queryset or a list with a star: verb(*entries)."
            )
        groups[entry._state.db or settings.get_conf().databases[0]].append(entry.pk)
    return list(groups.items())


def _check_copy(entry: object, to: object) -> None:
    if not isinstance(entry, OutboxEntry):
        raise InvalidOption(f"Expected one outbox entry, not {type(entry).__name__}.")
    if isinstance(to, str):
        raise InvalidOption("to must be a list of addresses, not one text; write to=[address].")


def _refuse_what_is_over(keys: Sequence[int], database: str) -> None:
    over = (
        OutboxEntry.objects.using(database).filter(pk__in=keys, state__in=RETRYABLE, expires_at__lte=UtcNow()).first()
    )
    if over is not None:
        raise InvalidOption(
            f"Entry {over.pk} expired at {over.expires_at}; to send it all the same pass a new expires_at, "
            "a moment or a timedelta."
        )


def _refuse_what_would_expire(keys: Sequence[int], send_at: datetime | timedelta, database: str) -> None:
    moment = UtcNow() + send_at if isinstance(send_at, timedelta) else send_at
    over = OutboxEntry.objects.using(database).filter(pk__in=keys, state__in=MOVABLE, expires_at__lte=moment).first()
    if over is not None:
        raise InvalidOption(
            f"Entry {over.pk} expires at {over.expires_at}, so at {send_at} it could not be sent any more."
        )
