"""Back in the queue, and perhaps sent already: set aside after a failover to a copy that lagged behind."""

from datetime import datetime

from django.db.models import Q, QuerySet

from mail_outbox.core.states import WAITING, State, Verb, sources
from mail_outbox.models import OutboxEntry, UtcNow
from mail_outbox.transitions.locking import change, in_batches, locked

QUARANTINE = "quarantine"


def quarantine(since: datetime, *, database: str) -> int:
    """Set aside what came due since then, and what is claimed, and return how many; workers may go on meanwhile."""
    found = suspicious(since, database=database).values_list("pk", "state")
    waiting, sending = list[int](), list[int]()
    for key, state in found:
        (sending if state == State.SENDING else waiting).append(key)
    # One by one: a worker that settles several comes to them in an order of its own.
    return sum(_quarantine(batch, database) for batch in [*in_batches(waiting), *([key] for key in sending)])


def _quarantine(keys: list[int], database: str) -> int:
    can_be = Q(state__in=sources(Verb.QUARANTINE))
    with locked(keys, can_be, database=database) as ready:
        return change(
            ready,
            can_be,
            database=database,
            state=State.HELD,
            state_reason=QUARANTINE,
            claim_id=None,
            lease_expires_at=None,
            finished_at=UtcNow(),
        )


def suspicious(since: datetime, *, database: str) -> QuerySet[OutboxEntry]:
    """Return what a worker may have sent since then without this database knowing."""
    came_due = Q(state__in=WAITING, due_at__gte=since, due_at__lte=UtcNow())
    return OutboxEntry.objects.using(database).filter(came_due | Q(state=State.SENDING))


def due_before(since: datetime, *, database: str) -> QuerySet[OutboxEntry]:
    """Return what waits and had come due before then."""
    return OutboxEntry.objects.using(database).filter(state__in=WAITING, due_at__lt=since)
