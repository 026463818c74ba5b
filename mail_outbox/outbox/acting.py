"""What becomes of entries by a caller's word: cancel, hold, release, retry, resend."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.core.errors import InvalidOption, WrongState
from mail_outbox.core.retry import OnAmbiguous
from mail_outbox.core.states import FINISHED, RETRYABLE
from mail_outbox.models import OutboxEntry, UtcNow
from mail_outbox.outbox.announcing import after_commit
from mail_outbox.outbox.enqueueing import make_draft, write
from mail_outbox.outbox.options import check_moment, check_options


def cancel(*entries: OutboxEntry, reason: str = "by hand") -> int:
    """Stop what no sender has yet, and return how many were really stopped."""
    return sum(transitions.cancel(keys, reason=reason, database=database) for database, keys in _by_database(entries))


def hold(*entries: OutboxEntry, reason: str) -> int:
    """Set aside what is still waiting, with a reason for the person who finds it, and return how many."""
    return sum(transitions.hold(keys, reason=reason, database=database) for database, keys in _by_database(entries))


def release(*entries: OutboxEntry) -> int:
    """Put back what is held, to be sent now, and return how many."""
    count = 0
    for database, keys in _by_database(entries):
        count += transitions.release(keys, database=database)
        after_commit(database=database)
    return count


def retry(*entries: OutboxEntry, expires_at: datetime | timedelta | None = None) -> int:
    """Send the same entries once more, under the same Message-ID, and return how many were put back.

    Only what is failed, held, expired or cancelled is put back. Raises InvalidOption where an entry is past its expiry
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


def resend(
    entry: OutboxEntry,
    *,
    to: Sequence[str] | None = None,
    using: str | None = None,
    idempotency_key: str | None = None,
) -> OutboxEntry:
    """Send the content again as a new entry that is linked to the old one, and return the new one.

    `to` replaces all recipients, cc and bcc included. Raises WrongState unless the entry has finished, and what
    `enqueue` raises.
    """
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
        using=using or entry.using,
        priority=entry.priority,
        idempotency_key=idempotency_key,
        on_ambiguous=on_ambiguous,
        tags=entry.tags,
        metadata=entry.content.metadata,
        sensitive=entry.sensitive,
        database=database,
    )
    draft = make_draft(message, options)
    draft.entry.resent_from = entry
    draft.entry.related = entry.related
    return write(draft, options)


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


def _refuse_what_is_over(keys: Sequence[int], database: str) -> None:
    over = (
        OutboxEntry.objects.using(database).filter(pk__in=keys, state__in=RETRYABLE, expires_at__lte=UtcNow()).first()
    )
    if over is not None:
        raise InvalidOption(
            f"Entry {over.pk} expired at {over.expires_at}; to send it all the same pass a new expires_at, "
            "a moment or a timedelta."
        )
