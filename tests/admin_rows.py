"""Many rows for the admin, as a busy month leaves them: mostly sent, some failed, a few of everything else."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from django.db import connections

from mail_outbox.core.envelope import digest, dump
from mail_outbox.models import Attempt, EntryContent, OutboxEntry, Recipient
from tests.support import a_message

CHUNK = 5_000
MONTH = timedelta(days=30)
COMMON = {"on_ambiguous": "retry", "date": datetime(2026, 1, 1, tzinfo=UTC), "rank": 0}
ERRORS = (("permanent", "550"), ("permanent", "554"), ("transient", "451"), ("ambiguous", "timeout"))
# As autovacuum leaves a table: what an index alone can answer is read from the index alone.
COUNT = {"mysql": "ANALYZE TABLE", "postgresql": "VACUUM (ANALYZE)"}
TABLES = ("outboxentry", "entrycontent", "recipient", "attempt")


def fill(rows: int, *, waiting: int = 200, database: str = "default", body: str = "Text") -> None:
    """Write so many finished entries with contents, recipients and attempts, and some that wait; then let the database count."""
    now = datetime.now(UTC)
    payload = dump(a_message(body=body)).payload
    entries = itertools.chain(_finished(rows, now), _waiting(waiting, now))
    while chunk := list(itertools.islice(entries, CHUNK)):
        OutboxEntry.objects.using(database).bulk_create(chunk)
        EntryContent.objects.using(database).bulk_create(
            EntryContent(entry=entry, payload=payload, digest=digest(payload)) for entry in chunk
        )
        Recipient.objects.using(database).bulk_create(
            Recipient(entry=entry, role="to", address=f"reader{entry.pk % 50_000}@example.com") for entry in chunk
        )
        Attempt.objects.using(database).bulk_create(_attempt(entry) for entry in chunk if entry.attempts)
    with connections[database].cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"{COUNT.get(cursor.db.vendor, 'ANALYZE')} mail_outbox_{table}")
            if cursor.db.vendor == "mysql":
                cursor.fetchall()


def empty(database: str = "default") -> None:
    """Take all of it away again."""
    for model in (Attempt, Recipient, EntryContent, OutboxEntry):
        model.objects.using(database).all()._raw_delete(database)


def _finished(rows: int, now: datetime) -> Iterator[OutboxEntry]:
    for number in range(rows):
        at = now - MONTH + MONTH * (number + 1) / (rows + 1)
        state, kind, code = "sent", "sent", ""
        if number % 50 == 7:
            state, (kind, code) = "failed", ERRORS[number // 50 % 4]
        elif number % 1000 == 3:
            state, kind, code = "held", "ambiguous", "timeout"
        elif number % 1000 == 5:
            state, kind = "cancelled", ""
        elif number % 1000 == 9:
            state, kind = "expired", ""
        yield _entry(
            number, state=state, outcome_kind=kind, outcome_code=code, finished_at=at, created_at=at, due_at=at,
            first_due_at=at - timedelta(seconds=number % 30), attempts=0 if state == "cancelled" else 1,
        )  # fmt: skip


def _waiting(rows: int, now: datetime) -> Iterator[OutboxEntry]:
    for number in range(rows):
        state = ("queued", "scheduled", "sending")[number % 3]
        due_at = now + timedelta(hours=1) if state == "scheduled" else now
        lease = {"lease_expires_at": now - timedelta(seconds=5)} if state == "sending" else {}
        yield _entry(number, state=state, created_at=now, due_at=due_at, first_due_at=due_at, **lease)


def _entry(number: int, **columns: Any) -> OutboxEntry:
    uuid = uuid4()
    using = "bulk" if number % 20 == 0 else "default"
    subject = f"Order {number} has been sent"
    return OutboxEntry(
        uuid=uuid, using=using, subject=subject, message_id=f"<{uuid.hex}@example.com>", related=f"shop.order:{number}",
        **COMMON, **columns,
    )  # fmt: skip


def _attempt(entry: OutboxEntry) -> Attempt:
    return Attempt(
        entry=entry, number=1, claim_id=uuid4(), using=entry.using, worker="host:1:a", started_at=entry.due_at,
        duration=timedelta(seconds=1), kind=entry.outcome_kind or "sent", code=entry.outcome_code,
        provider_message_id=f"provider-{entry.pk}",
    )  # fmt: skip
