"""What is known of entries whose attempt has ended, read for many at once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mail_outbox.core.outcomes import WORKER_LOST, Kind
from mail_outbox.core.retry import History
from mail_outbox.models import Attempt, OutboxEntry, Recipient, RecipientStatus

TROUBLES = (Kind.THROTTLED, Kind.MAILER)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What matters of one earlier attempt."""

    kind: str
    code: str
    using: str
    started_at: datetime


def is_repeated(entry: OutboxEntry) -> bool:
    """Tell whether there may have been attempts before the one that is claimed, counted or not."""
    return entry.attempts > 1 or bool(entry.outcome_kind)


def read_histories(entries: Sequence[OutboxEntry], *, now: datetime, database: str) -> dict[int, History]:
    """Return the history of each entry by primary key; first attempts cost no query."""
    repeated = [entry.pk for entry in entries if is_repeated(entry)]
    earlier: dict[int, list[Earlier]] = defaultdict(list)
    accepted: set[int] = set()
    if repeated:
        attempts = Attempt.objects.using(database).filter(
            entry_id__in=repeated, kind__in=[Kind.AMBIGUOUS, Kind.TRANSIENT, *TROUBLES]
        )
        columns = attempts.values_list("entry_id", "kind", "code", "using", "started_at")
        for key, kind, code, using, started_at in columns:
            earlier[key].append(Earlier(kind, code, using, started_at))
        accepted.update(
            Recipient.objects.using(database)
            .filter(entry_id__in=repeated)
            .exclude(status__in=[RecipientStatus.OPEN, RecipientStatus.REFUSED, RecipientStatus.SUPPRESSED])
            .values_list("entry_id", flat=True)
        )
    return {
        entry.pk: _history(entry, earlier[entry.pk], now=now, accepted_before=entry.pk in accepted) for entry in entries
    }


def _history(entry: OutboxEntry, earlier: Sequence[Earlier], *, now: datetime, accepted_before: bool) -> History:
    unclear = [attempt for attempt in earlier if attempt.kind == Kind.AMBIGUOUS]
    since = [attempt for attempt in earlier if attempt.started_at >= entry.first_due_at]
    refused = [each.started_at for each in earlier if each.kind == Kind.TRANSIENT and each.using == entry.using]
    known_until = entry.recognised_until
    return History(
        attempts=entry.attempts,
        age=now - entry.first_due_at,
        ambiguous=sum(
            attempt in unclear and (known_until is None or attempt.started_at >= known_until) for attempt in since
        ),
        lost_workers=sum(attempt.code == WORKER_LOST for attempt in since),
        troubles=sum(attempt.kind in TROUBLES for attempt in since),
        tried=(
            *(each.using for each in since if each.kind != Kind.AMBIGUOUS and each.started_at >= entry.due_at),
            entry.using,
        ),
        accepted_before=accepted_before,
        key_left=_key_left(entry, unclear, now),
        may_be_out=any(attempt in unclear for attempt in since),
        was_ambiguous=bool(unclear),
        refused_ago=now - max(refused) if refused else None,
    )


def _key_left(entry: OutboxEntry, unclear: Iterable[Earlier], now: datetime) -> timedelta | None:
    if entry.recognised_until is None:
        return None
    # Another mailer has another provider, or another account, which never saw the key.
    is_elsewhere = any(attempt.using != entry.using for attempt in unclear)
    return timedelta(0) if is_elsewhere else entry.recognised_until - now
