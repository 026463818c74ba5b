"""What it costs to enqueue: one message against one INSERT, many against `bulk_create`."""

import time
from collections.abc import Callable, Iterator
from statistics import median
from types import ModuleType
from typing import Any

from benchmarks.contenders import django_mailer, ours, post_office, q2, tasks_db
from benchmarks.stage import Stage
from benchmarks.table import Table, Target

COLUMNS = (
    "database",
    "who",
    "call, ms",
    "one INSERT, ms",
    "ratio inside a transaction",
    "ratio with its own transaction",
)
ABOUT = """Median time of one call that puts one message into the queue, against one ORM INSERT of an equivalent row (the
content in one JSON column, one index), which took turns with it in the same process: inside a transaction the call alone,
with its own transaction from BEGIN to the end of the COMMIT, with everything that happens after it."""
NAMES = {
    ours: "mail_outbox",
    django_mailer: "django-mailer",
    post_office: "django-post_office",
    tasks_db: "django-tasks-db",
    q2: "django-q2, a task per mail",
}


def measure(stage: Stage) -> Table:
    """Measure everybody that is there."""
    table = Table(
        name="enqueue",
        title="Enqueue",
        about=ABOUT,
        columns=COLUMNS,
        bars_show="times one INSERT, inside a transaction",
    )
    for database in stage.databases:
        for contender, name in NAMES.items():
            if contender is ours or (stage.size != "tiny" and stage.has(contender)):
                measure_one(stage, table, database, contender, name)
        measure_many(stage, table, database)
    return table


def measure_one(stage: Stage, table: Table, database: str, contender: ModuleType, name: str) -> None:
    """Measure one contender, and add its row."""
    with stage.crew(contender, database, stage.smtp()) as (child,):
        times = child.call(
            "benchmarks.enqueue.take_turns",
            module=contender.__name__,
            count=stage.choose(5, 200, quick=40) * stage.repeats,
        )
    inside, alone = times["inside"], times["alone"]
    row = [database, name, inside[0], inside[1], round(inside[0] / inside[1], 2), round(alone[0] / alone[1], 2)]
    table.rows.append(row)
    table.bars.append((f"{name} ({database})", row[4]))
    if contender is ours:
        what = f"enqueue, {database}: one message in a transaction against one INSERT"
        table.targets.append(Target(what=what, measured=inside[0] / inside[1], most=1.5, unit="x"))


def measure_many(stage: Stage, table: Table, database: str) -> None:
    """Measure `enqueue_many` of different messages, and of messages with one content."""
    with stage.crew(ours, database, stage.smtp()) as (child,):
        rates = child.call("benchmarks.enqueue.many", count=stage.choose(20, 2000, quick=500), repeats=stage.repeats)
    share = rates["enqueue_many"] / rates["bulk_create"]
    table.notes.append(
        f"{database}: `enqueue_many` writes {rates['enqueue_many']:,.0f} messages/s, `bulk_create` of one equivalent table"
        f" {rates['bulk_create']:,.0f} rows/s: {share:.2f} of it."
    )
    what = f"enqueue, {database}: enqueue_many against bulk_create of one equivalent table"
    table.targets.append(Target(what=what, measured=share, least=0.7, unit="x"))


def take_turns(module: str, count: int) -> dict[str, tuple[float, float]]:
    """Let the contender and one INSERT take turns, and return their medians in ms, in a measured process."""
    from django.utils.module_loading import import_string

    enqueue = import_string(f"{module}.enqueue")
    calls: tuple[Callable[[int], Any], ...] = (enqueue, insert)
    for call in calls:
        for number in range(5):
            call(number)
    found: dict[str, tuple[float, float]] = {}
    for kind, clock in (("inside", call_inside), ("alone", call_alone)):
        times = [[clock(call, number) for call in calls] for number in range(count)]
        ours_, plain = (round(median(column) * 1000, 3) for column in zip(*times, strict=True))
        found[kind] = (ours_, plain)
    return found


def call_inside(call: Callable[[int], Any], number: int) -> float:
    """Return the seconds of the call alone, inside a transaction."""
    from django.db import transaction

    with transaction.atomic():
        began = time.perf_counter()
        call(number)
        return time.perf_counter() - began


def call_alone(call: Callable[[int], Any], number: int) -> float:
    """Return the seconds of the call with its transaction."""
    from django.db import transaction

    began = time.perf_counter()
    with transaction.atomic():
        call(number)
    return time.perf_counter() - began


def row(number: int) -> Any:
    """Return the equivalent row."""
    from benchmarks.message import SENDER, parts
    from benchmarks.models import PlainRow

    part = parts(number)
    content = {"text": part["text"], "html": part["html"]}
    return PlainRow(sender=SENDER, recipient=part["to"], subject=part["subject"], payload=content)


def insert(number: int) -> None:
    """Write one row."""
    row(number).save(force_insert=True)


def many(count: int, repeats: int) -> dict[str, float]:
    """Return the rates of writing many at once, in a measured process."""
    from benchmarks.message import a_message
    from benchmarks.models import PlainRow
    from mail_outbox import outbox

    def enqueue_many(numbers: Iterator[int]) -> None:
        outbox.enqueue_many(a_message(number) for number in numbers)

    def bulk_create(numbers: Iterator[int]) -> None:
        PlainRow.objects.bulk_create([row(number) for number in numbers], batch_size=500)

    rates: dict[str, list[float]] = {"enqueue_many": [], "bulk_create": []}
    for turn in range(repeats + 1):
        for write in (enqueue_many, bulk_create):
            began = time.perf_counter()
            write(iter(range(count)))
            if turn:
                rates[write.__name__].append(count / (time.perf_counter() - began))
    return {name: median(found) for name, found in rates.items()}
