"""From one mailer to another of the same route, for what waits."""

from django.db import transaction
from django.db.models import Q

from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry
from mail_outbox.transitions.locking import change, lock_free_rows

REROUTE_BATCH = 1000


def reroute(route: str, mailer: str, *, to: str, database: str, limit: int = REROUTE_BATCH) -> int:
    """Hand what waits for the mailer to another one, first in line first and place in line kept, and return how many.

    Never what somebody may have already.
    """
    waiting = OutboxEntry.objects.using(database).to_reroute(route, mailer)
    if not waiting.exists():
        return 0
    with transaction.atomic(using=database):
        keys = [key for (key,) in lock_free_rows(waiting.order_by("rank", "due_at", "pk"), limit, "pk")]
        ours = Q(state=State.QUEUED, using=mailer)
        return change(keys, ours, database=database, using=to) if keys else 0
