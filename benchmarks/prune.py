"""Whether a prune of many finished entries gets in the way of a drain."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.claim import series
from benchmarks.contenders import ours
from benchmarks.crew import Child
from benchmarks.stage import Stage
from benchmarks.table import Table, Target, percentile

COLUMNS = (
    "database",
    "finished entries",
    "what runs",
    "messages/s",
    "a statement of the drain, p99 ms",
    "longest ms",
    "entries pruned/s",
    "longest lock of the prune, ms",
)
ABOUT = """The same drain over SMTP (one process, 8 senders) alone and with the steps of `outbox prune` in another process all
the while: entries that were sent 40 days ago, each with a recipient and an attempt. A lock is held no longer than the
transaction that has it, or the statement where it stands alone, so the longest of both is what is shown; who waits for a lock
of the prune waits in a statement of the drain."""
GROWN_AT_ONCE = 50_000
ALONE, BOTH = "drain alone", "drain and prune"


def measure(stage: Stage) -> Table:
    """Drain without and with a prune beside it, in turn."""
    table = Table(name="prune", title="Prune beside a drain", about=ABOUT, columns=COLUMNS, bars_show="messages/s")
    backlog = stage.choose(10, 1000, 4000, quick=300)
    finished = stage.choose(50, 100_000, 1_000_000, quick=20_000)
    for database in stage.databases:
        with (
            stage.crew(ours, database, stage.smtp()) as (drainer,),
            stage.crew(ours, database, stage.smtp()) as (pruner,),
        ):
            drainer.call("benchmarks.contenders.ours.clear")
            runs = [_turn(stage, drainer, pruner, backlog, finished) for _ in range(stage.repeats + 1)][1:]
            drainer.call("benchmarks.contenders.ours.clear")
        _report(table, database, backlog, finished, runs)
    return table


def _turn(stage: Stage, drainer: Child, pruner: Child, backlog: int, finished: int) -> dict[str, dict[str, Any]]:
    """Drain alone, then beside a prune."""
    over = stage.directory / "over"
    drainer.call("benchmarks.prune.grow_to", count=finished)
    drainer.call("benchmarks.contenders.ours.fill", count=backlog)
    alone = drainer.call("benchmarks.prune.timed_drain")
    drainer.call("benchmarks.contenders.ours.fill", count=backlog)
    over.unlink(missing_ok=True)
    pruner.tell("benchmarks.prune.prune_until", over=str(over))
    both = drainer.call("benchmarks.prune.timed_drain")
    over.touch()
    return {ALONE: alone, BOTH: {**both, **pruner.answer()["result"]}}


def _report(table: Table, database: str, backlog: int, finished: int, runs: list[dict[str, dict[str, Any]]]) -> None:
    for name in (ALONE, BOTH):
        found = [run[name] for run in runs]
        rate = round(median(backlog / each["seconds"] for each in found), 1)
        middle = [round(median(each[key] for each in found), 1) for key in ("p99", "longest")]
        pruned = [round(median(each["pruned"] for each in found)), round(max(each["held"] for each in found), 1)]
        table.rows.append([database, finished, name, rate, *middle, *(pruned if name == BOTH else [None, None])])
        table.bars.append((f"mail_outbox {name} ({database})", rate))
    if any(run[BOTH]["is_exhausted"] for run in runs):
        table.notes.append(
            f"{database}: a prune had nothing left before its drain was over, so it was beside a part of it."
        )
    if database == "sqlite":
        return  # where the two are the one writer in turn: there is no target for that
    kept = median(run[ALONE]["seconds"] / run[BOTH]["seconds"] for run in runs)
    what = f"drain beside a prune of {finished:,} finished entries against the drain alone, {database}"
    table.targets.append(Target(what=what, measured=kept, least=0.7, unit="x"))
    held = max(run[BOTH]["held"] for run in runs) / 1000
    table.targets.append(Target(what=f"longest lock of that prune, {database}", measured=held, most=0.5, unit="s"))


def grow_to(count: int) -> None:
    """Have so many entries that were sent long ago, each with a recipient and an attempt, in a measured process."""
    from django.db import connection

    from mail_outbox.models import OutboxEntry

    ours.fill(1)
    ours.drain()
    missing = count - OutboxEntry.objects.count()
    for start in range(0, missing, GROWN_AT_ONCE):
        _grow(min(GROWN_AT_ONCE, missing - start))
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def _grow(count: int) -> None:
    """Copy an entry that was sent so many times, with all that belongs to it but the content, which is pruned earlier."""
    from django.db import connection, models

    from mail_outbox.models import Attempt, OutboxEntry, Recipient

    is_server = connection.vendor == "postgresql"
    last = OutboxEntry.objects.aggregate(last=models.Max("pk"))["last"]
    uuid = "gen_random_uuid()" if is_server else "lower(hex(randomblob(16)))"
    age = "now() - interval '40 days'" if is_server else "strftime('%Y-%m-%d %H:%M:%f', 'now', '-40 days')"
    own = {"uuid": uuid, "claim_id": uuid, "message_id": "'<' || n || '@example.com>'", "finished_at": age}
    false = "false" if is_server else "0"
    template = "(SELECT * FROM {} WHERE {} = {}) t"
    numbers = series(connection.vendor, count)
    _copy(OutboxEntry, {**own, "has_content": false}, template.format("{}", "id", last), numbers)
    source = template.format("{}", "entry_id", last)
    copies = f"(SELECT id, claim_id FROM {OutboxEntry._meta.db_table} WHERE id > {last}) e"  # noqa: S608
    _copy(Recipient, {"entry_id": "e.id"}, source, copies)
    _copy(Attempt, {"entry_id": "e.id", "claim_id": "e.claim_id", "started_at": age}, source, copies)


def _copy(model: Any, own: dict[str, str], source: str, times: str) -> None:
    from django.db import connection

    quote = connection.ops.quote_name
    columns = [field.column for field in model._meta.concrete_fields if not field.primary_key]
    chosen = ", ".join(own.get(column, f"t.{quote(column)}") for column in columns)
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(map(quote, columns))}) "  # noqa: S608
            f"SELECT {chosen} FROM {source.format(table)}, {times}"
        )


def timed_drain() -> dict[str, float]:
    """Drain, and return how long it and its statements took, in a measured process."""
    from django.db import connection

    times: list[float] = []
    began = time.perf_counter()
    with connection.execute_wrapper(_clock(times)):
        ours.drain()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "p99": percentile(times, 0.99), "longest": max(times), "held": 0.0, "pruned": 0.0}


def prune_until(over: str) -> dict[str, float]:
    """Prune until that file is there, and return the entries per second and the longest lock in ms."""
    from django.db import connection

    from mail_outbox.outbox.pruning import prune_in_steps

    held: list[float] = [0.0]
    began, count, is_exhausted = time.perf_counter(), 0, True
    with connection.execute_wrapper(_clock(held)), _timed_transactions(held):
        for step in prune_in_steps():
            count += step.entries
            if Path(over).exists():
                is_exhausted = False
                break
    seconds = time.perf_counter() - began
    return {"pruned": count / seconds, "held": max(held), "is_exhausted": is_exhausted}


def _clock(times: list[float]) -> Any:
    """Return a wrapper that writes down how long each statement takes, in ms."""

    def clock(execute: Any, *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            times.append((time.perf_counter() - began) * 1000)

    return clock


@contextmanager
def _timed_transactions(times: list[float]) -> Iterator[None]:
    """Write down how long each transaction takes, in ms, from its beginning until it has been committed."""
    from django.db import connection

    switch, began = connection.set_autocommit, [0.0]

    def set_autocommit(autocommit: Any, *args: Any, **options: Any) -> None:
        if not autocommit:
            began[0] = time.perf_counter()
        switch(autocommit, *args, **options)
        if autocommit:
            times.append((time.perf_counter() - began[0]) * 1000)

    connection.set_autocommit = set_autocommit  # type: ignore[method-assign]
    try:
        yield
    finally:
        del connection.set_autocommit
