"""From sending, past the lease: settle what a lost worker left behind, by primary key and in small batches."""

from collections.abc import Callable

from django.db import transaction

from mail_outbox.core.outcomes import WORKER_LOST, Ambiguous
from mail_outbox.core.retry import Policy, decide
from mail_outbox.models import OutboxEntry, UtcNow
from mail_outbox.transitions.histories import read_histories
from mail_outbox.transitions.locking import lock_free_rows
from mail_outbox.transitions.settling import Settlement, settle

RESCUE_BATCH = 100
LOST = Ambiguous(code=WORKER_LOST, text="The worker that claimed the entry never said what became of it.")


def rescue(*, policy_of: Callable[[OutboxEntry], Policy], luck: Callable[[], float], database: str) -> list[Settlement]:
    """Settle up to 100 entries whose lease ran out as ambiguous, and return the settlements."""
    if not OutboxEntry.objects.using(database).stuck().exists():
        return []
    with transaction.atomic(using=database):
        stuck = OutboxEntry.objects.using(database).stuck().order_by("lease_expires_at", "pk")
        keys = [key for (key,) in lock_free_rows(stuck, RESCUE_BATCH, "pk")]
        if not keys:
            return []
        # Without what may be damaged, and nobody here needs: one row that cannot be read would keep all of them.
        entries = list(
            OutboxEntry.objects.using(database)
            .stuck()
            .filter(pk__in=keys)
            .defer("tags")
            .order_by("pk")
            .annotate(now=UtcNow())
        )
        histories = read_histories(entries, now=max(entry.now for entry in entries), database=database)
        settlements = [
            Settlement(
                entry=entry,
                claim_id=entry.claim_id,
                outcome=LOST,
                decision=decide(LOST, history=histories[entry.pk], policy=policy_of(entry), luck=luck()),
                started_at=entry.now,
            )
            for entry in entries
            if entry.claim_id is not None
        ]
        return settle(settlements, database=database)
