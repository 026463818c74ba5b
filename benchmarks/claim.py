"""What a claim costs as the table grows: finished rows behind it, a backlog before it."""

import time
from datetime import timedelta
from statistics import median
from typing import Any

from benchmarks.contenders import ours
from benchmarks.stage import Stage
from benchmarks.table import Table, Target

COLUMNS = ("database", "finished", "waiting", "claim of 100, ms")
ABOUT = """Median time of one claim of 100 entries, rolled back each time, by the number of finished and of waiting entries. The
target is against an empty table with 1,000 waiting."""
CLAIMED = 100


def measure(stage: Stage) -> Table:
    """Let the table grow, and claim."""
    table = Table(name="claim", title="Claim by the size of the table", about=ABOUT, columns=COLUMNS, bars_show="ms")
    sizes = stage.choose(
        [(0, 200), (200, 400)],
        [(0, 1_000), (100_000, 20_000), (300_000, 100_000)],
        [(0, 1_000), (1_000_000, 20_000), (1_000_000, 200_000), (5_000_000, 200_000)],
        quick=[(0, 1_000), (30_000, 10_000)],
    )
    for database in stage.databases:
        with stage.crew(ours, database, stage.null()) as (child,):
            child.call("benchmarks.contenders.ours.clear")
            times, there = [], (0, 0)
            for finished, waiting in sizes:
                child.call("benchmarks.claim.grow", finished=finished - there[0], waiting=waiting - there[1])
                there = (finished, waiting)
                times.append(child.call("benchmarks.claim.claim", count=10 * stage.repeats))
                table.rows.append([database, finished, waiting, round(times[-1], 2)])
                table.bars.append((f"mail_outbox {finished:,} / {waiting:,} ({database})", round(times[-1], 2)))
            child.call("benchmarks.contenders.ours.clear")
        what = (
            f"claim, {database}: {sizes[-1][0]:,} finished and {sizes[-1][1]:,} waiting against 0 and {sizes[0][1]:,}"
        )
        table.targets.append(Target(what=what, measured=times[-1] / times[0], most=1.5, unit="x"))
    return table


def grow(finished: int, waiting: int) -> None:
    """Add so many rows by one statement each, in a measured process."""
    from django.db import connection

    from mail_outbox.models import OutboxEntry

    if not OutboxEntry.objects.exists():
        ours.fill(1)
    columns = [field.column for field in OutboxEntry._meta.concrete_fields]
    with connection.cursor() as cursor:
        for state, ended, count in (("sent", "due_at", finished), ("queued", "NULL", waiting)):
            values = {"state": f"'{state}'", "finished_at": ended, **expressions(connection.vendor)}
            copied = [column for column in columns if column != "id"]
            quoted = [connection.ops.quote_name(column) for column in copied]
            chosen = ", ".join(values.get(column, f"e.{connection.ops.quote_name(column)}") for column in copied)
            cursor.execute(
                f"INSERT INTO mail_outbox_outboxentry ({', '.join(quoted)}) SELECT {chosen} "  # noqa: S608
                f"FROM (SELECT * FROM mail_outbox_outboxentry ORDER BY id LIMIT 1) e, {series(connection.vendor, count)}"
            )
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def expressions(vendor: str) -> dict[str, str]:
    """Return what makes each row its own."""
    if vendor == "postgresql":
        return {
            "uuid": "gen_random_uuid()",
            "message_id": "'<' || n || '@example.com>'",
            "due_at": "e.due_at + n * interval '1 microsecond'",
        }
    return {"uuid": "lower(hex(randomblob(16)))", "message_id": "'<' || n || '@example.com>'"}


def series(vendor: str, count: int) -> str:
    """Return a table of so many numbers, in the column n."""
    if vendor == "postgresql":
        return f"generate_series(1, {count}) AS n"
    numbers = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < "
    return f"({numbers}{count}) SELECT n FROM r WHERE n <= {count}) AS numbers"  # noqa: S608


def claim(count: int) -> float:
    """Return the median of so many claims in ms, in a measured process."""
    from uuid import uuid4

    from django.db import transaction

    from mail_outbox import transitions

    options: dict[str, Any] = {"worker": "benchmark", "lease": timedelta(minutes=5), "database": "default"}
    times = []
    for _ in range(count + 3):
        with transaction.atomic():
            began = time.perf_counter()
            keys = transitions.claim("default", CLAIMED, claim_id=uuid4(), oldest=range(9, CLAIMED, 10), **options)
            times.append((time.perf_counter() - began) * 1000)
            transaction.set_rollback(True)
        if len(keys) != CLAIMED:
            raise RuntimeError(f"{len(keys)} entries were claimed instead of {CLAIMED}.")
    return median(times[3:])
