"""Builds broken on purpose: each takes one safeguard away, and the checker must see it."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db.models import F


def no_claim_id() -> None:
    """Let a worker settle whatever it once had, whoever has it now."""
    from mail_outbox.models import OutboxEntry
    from mail_outbox.transitions import settling

    def careless(settlement: settling.Settlement, database: str) -> settling.Settlement | None:
        entries = OutboxEntry.objects.using(database).filter(pk=settlement.entry.pk)
        return settlement if settling.update_state(entries, settlement.decision, settlement.outcome) else None

    settling._write_decision = careless


def settled_before_sent() -> None:
    """Mark as sent what is about to be sent."""
    from django.utils import timezone

    from mail_outbox.core.outcomes import Sent
    from mail_outbox.core.retry import Decision
    from mail_outbox.core.states import State
    from mail_outbox.drain import claims
    from mail_outbox.transitions.settling import Settlement, settle

    read_jobs = claims.read_jobs

    def optimistic(*arguments: Any, database: str, **keywords: Any) -> Any:
        jobs = read_jobs(*arguments, database=database, **keywords)
        sent = [
            Settlement(
                entry=job.entry,
                claim_id=job.claim_id,
                decision=Decision(state=State.SENT),
                outcome=Sent(),
                started_at=timezone.now(),
            )
            for job in jobs
        ]
        settle(sent, database=database)
        return jobs

    claims.read_jobs = optimistic


def no_rescue() -> None:
    """Leave alone what a lost worker has left behind."""
    from mail_outbox import transitions

    transitions.rescue = lambda **_: []


def no_mark() -> None:
    """Claim without taking the entry out of the queue."""
    from mail_outbox.models import OutboxEntry, UtcNow
    from mail_outbox.models.entry import EntryQuerySet
    from mail_outbox.transitions import claiming

    def unmarked(keys: Sequence[int], claim_id: UUID, worker: str, lease: timedelta, database: str) -> list[int]:
        OutboxEntry.objects.using(database).filter(pk__in=keys).update(
            claim_id=claim_id, worker=worker, lease_expires_at=UtcNow() + lease, attempts=F("attempts") + 1
        )
        return list(keys)

    claiming._mark = unmarked
    EntryQuerySet.claimed = lambda self, claim_id: self.filter(claim_id=claim_id)


def lost_success() -> None:
    """Throw away a success whose claim has been lost meanwhile."""
    from mail_outbox.core.states import State
    from mail_outbox.models import OutboxEntry
    from mail_outbox.transitions import settling

    write_successes = settling._write_successes

    def forgetful(settlements: Sequence[settling.Settlement], database: str) -> None:
        held = OutboxEntry.objects.using(database).filter(state=State.SENDING)
        ours = [each for each in settlements if held.filter(pk=each.entry.pk, claim_id=each.claim_id).exists()]
        if ours:
            write_successes(ours, database)

    settling._write_successes = forgetful


def fresh_message_id() -> None:
    """Give every attempt a Message-ID of its own, as a message that is built anew has."""
    from dataclasses import replace

    from mail_outbox.delivery import line

    stamp = line.stamp
    line.stamp = lambda parcel, *rest: stamp(replace(parcel, message_id=f"<{uuid4().hex}@outbox.example>"), *rest)


def no_transaction() -> None:
    """Write the mail beside the caller's transaction, which may still be rolled back."""
    from django.conf import settings
    from django.db import connections

    from mail_outbox import transitions

    insert = transitions.insert
    connections.databases["aside"] = {**connections.databases["default"], **settings.DATABASES["default"]}
    transitions.insert = lambda drafts, *, database: insert(drafts, database="aside")


SABOTAGES: dict[str, Callable[[], None]] = {
    "no_claim_id": no_claim_id,
    "settled_before_sent": settled_before_sent,
    "no_rescue": no_rescue,
    "no_mark": no_mark,
    "lost_success": lost_success,
    "fresh_message_id": fresh_message_id,
    "no_transaction": no_transaction,
}
