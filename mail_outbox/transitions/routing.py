"""From one mailer to another of the same route, for what waits."""

from django.db import transaction

from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry
from mail_outbox.transitions.locking import lock_free_rows

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
        entries = OutboxEntry.objects.using(database).filter(pk__in=keys, state=State.QUEUED, using=mailer)
        return entries.update(using=to) if keys else 0
