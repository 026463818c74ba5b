"""What a run has left in its database, read for the checker; and the trigger that notes every change of state."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from django.db import connection

from mail_outbox.models import Attempt, OutboxEntry, Recipient, RecipientStatus
from tests.totalqueue.checker import Change, Evidence, Row, fates_of
from tests.totalqueue.history import of_kind, read
from tests.totalqueue.providers import Providers

# The same for all: the table, then what fills it.
TABLE = "CREATE TABLE totalqueue_change (entry bigint, state_before varchar(9), state_after varchar(9))"
INSERT = "INSERT INTO totalqueue_change VALUES (NEW.id, OLD.state, NEW.state);"
TRIGGERS: dict[str, list[str]] = {
    "sqlite": [
        "CREATE TRIGGER totalqueue_change AFTER UPDATE OF state ON mail_outbox_outboxentry "
        f"WHEN OLD.state <> NEW.state BEGIN {INSERT} END",
    ],
    "postgresql": [
        "CREATE FUNCTION totalqueue_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {INSERT} RETURN NULL; END $$",
        "CREATE TRIGGER totalqueue_change AFTER UPDATE OF state ON mail_outbox_outboxentry "
        "FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION totalqueue_change()",
    ],
    "mysql": [
        "CREATE TRIGGER totalqueue_change AFTER UPDATE ON mail_outbox_outboxentry FOR EACH ROW "
        f"IF OLD.state <> NEW.state THEN {INSERT} END IF",
    ],
}


def note_changes() -> None:
    """Let the database itself write down every change of state."""
    with connection.cursor() as cursor:
        for statement in [TABLE, *TRIGGERS[connection.vendor]]:
            cursor.execute(statement)


def gather(history: Path, providers: Providers) -> Evidence:
    """Read everything that the checker judges."""
    events = list(read(history))
    keys = {entry.pk: entry.idempotency_key or "" for entry in OutboxEntry.objects.all()}
    with connection.cursor() as cursor:
        cursor.execute("SELECT entry, state_before, state_after FROM totalqueue_change")
        changes = [Change(key=keys.get(entry, ""), before=old, after=new) for entry, old, new in cursor.fetchall()]
    return Evidence(
        fates=fates_of(events),
        accepts=list(providers.accepts()),
        rows=_rows(),
        changes=changes,
        settled=frozenset(event["key"] for event in of_kind(events, "settled")),
    )


def _rows() -> list[Row]:
    kinds: dict[int, list[str]] = defaultdict(list)
    for entry, kind in Attempt.objects.values_list("entry", "kind"):
        kinds[entry].append(kind)
    accepted: dict[int, set[str]] = defaultdict(set)
    for entry, address in Recipient.objects.filter(status=RecipientStatus.ACCEPTED).values_list("entry", "address"):
        accepted[entry].add(address)
    return [_row(entry, kinds[entry.pk], accepted[entry.pk]) for entry in OutboxEntry.objects.all()]


def _row(entry: Any, kinds: list[str], accepted: set[str]) -> Row:
    return Row(
        key=entry.idempotency_key or "",
        state=entry.state,
        reason=entry.state_reason,
        on_ambiguous=entry.on_ambiguous,
        attempts=entry.attempts,
        max_attempts=30 if entry.max_attempts is None else entry.max_attempts,
        kinds=tuple(kinds),
        accepted=frozenset(accepted),
        has_claim=entry.claim_id is not None,
    )
