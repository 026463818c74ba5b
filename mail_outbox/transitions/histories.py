"""What is known of entries whose attempt has ended, read for many at once."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from django.db.models import F

from mail_outbox.core.outcomes import WORKER_LOST, Kind
from mail_outbox.core.retry import History
from mail_outbox.models import Attempt, OutboxEntry, Recipient, RecipientStatus

TROUBLES = (Kind.THROTTLED, Kind.MAILER)


def is_repeated(entry: OutboxEntry) -> bool:
    """Tell whether there may have been attempts before the one that is claimed, counted or not."""
    return entry.attempts > 1 or bool(entry.outcome_kind)


def read_histories(entries: Sequence[OutboxEntry], *, now: datetime, database: str) -> dict[int, History]:
    """Return the history of each entry by primary key; first attempts cost no query."""
    repeated = [entry.pk for entry in entries if is_repeated(entry)]
    ambiguous: Counter[int] = Counter()
    lost: Counter[int] = Counter()
    troubles: Counter[int] = Counter()
    accepted: set[int] = set()
    if repeated:
        earlier = Attempt.objects.using(database).filter(
            entry_id__in=repeated, kind__in=[Kind.AMBIGUOUS, *TROUBLES], started_at__gte=F("entry__first_due_at")
        )
        for key, kind, code in earlier.values_list("entry_id", "kind", "code"):
            troubles[key] += kind in TROUBLES
            ambiguous[key] += kind == Kind.AMBIGUOUS
            lost[key] += code == WORKER_LOST
        accepted.update(
            Recipient.objects.using(database)
            .filter(entry_id__in=repeated)
            .exclude(status__in=[RecipientStatus.OPEN, RecipientStatus.REFUSED])
            .values_list("entry_id", flat=True)
        )
    return {
        entry.pk: History(
            attempts=entry.attempts,
            age=now - entry.first_due_at,
            ambiguous=ambiguous[entry.pk],
            lost_workers=lost[entry.pk],
            troubles=troubles[entry.pk],
            accepted_before=entry.pk in accepted,
        )
        for entry in entries
    }
