"""Back in the queue, and perhaps sent already: set aside after a failover to a copy that lagged behind."""

from datetime import datetime

from django.db.models import Q, QuerySet

from mail_outbox.core.states import WAITING, State, Verb, sources
from mail_outbox.models import OutboxEntry, UtcNow
from mail_outbox.transitions.locking import in_batches

QUARANTINE = "quarantine"


def quarantine(since: datetime, *, database: str) -> int:
    """Set aside what came due since then, and what is claimed, and return how many; workers may go on meanwhile."""
    keys = suspicious(since, database=database).values_list("pk", flat=True)
    entries = OutboxEntry.objects.using(database)
    return sum(
        entries.filter(pk__in=batch, state__in=sources(Verb.QUARANTINE)).update(
            state=State.HELD,
            state_reason=QUARANTINE,
            claim_id=None,
            lease_expires_at=None,
            finished_at=UtcNow(),
        )
        for batch in in_batches(keys)
    )


def suspicious(since: datetime, *, database: str) -> QuerySet[OutboxEntry]:
    """Return what a worker may have sent since then without this database knowing."""
    came_due = Q(state__in=WAITING, due_at__gte=since, due_at__lte=UtcNow())
    return OutboxEntry.objects.using(database).filter(came_due | Q(state=State.SENDING))


def due_before(since: datetime, *, database: str) -> QuerySet[OutboxEntry]:
    """Return what waits and had come due before then."""
    return OutboxEntry.objects.using(database).filter(state__in=WAITING, due_at__lt=since)
