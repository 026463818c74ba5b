"""How many SQL statements one delivered message costs the workers."""

from pathlib import Path

from benchmarks.apps import new_counter, read_counter
from benchmarks.cluster import cluster, wait_until
from benchmarks.contenders import ours
from benchmarks.stage import Stage
from benchmarks.table import Table, Target

COLUMNS = ("database", "how they come", "messages", "statements per message", "of them about the outbox")
ABOUT = """SQL statements of the workers per delivered message, BEGIN and COMMIT not counted: from a backlog, by one process with
8 senders; and one by one, 100 committed a second, by a django-q2 cluster of one worker."""


def measure(stage: Stage) -> Table:
    """Count both."""
    table = Table(name="statements", title="SQL statements per message", about=ABOUT, columns=COLUMNS)
    for database in stage.databases:
        add(table, database, "a backlog", *backlog(stage, database))
        add(table, database, "100 a second", *steadily(stage, database))
    return table


def add(table: Table, database: str, how: str, count: int, statements: tuple[int, int]) -> None:
    """Add a row and its target."""
    table.rows.append([database, how, count, *(round(each / count, 2) for each in statements)])
    what = f"statements, {database}: per message, {how}"
    table.targets.append(Target(what=what, measured=statements[1] / count, most=3))


def backlog(stage: Stage, database: str) -> tuple[int, tuple[int, int]]:
    """Drain a backlog, and return how many messages and how many statements there were."""
    counter = Path(stage.directory / f"backlog-{database}")
    new_counter(counter)
    count = stage.choose(10, 1000, quick=200)
    with stage.crew(ours, database, stage.smtp()) as (child,):
        child.call("benchmarks.contenders.ours.fill", count=count)
    stage.sink.clear()
    with stage.crew(ours, database, stage.smtp(), BENCHMARK_STATEMENTS=str(counter)) as (child,):
        child.call("benchmarks.contenders.ours.drain")
    # What another table has left in the queue goes out with it.
    return stage.sink.read().count, read_counter(counter)


def steadily(stage: Stage, database: str) -> tuple[int, tuple[int, int]]:
    """Let a cluster deliver what comes one by one, and return how many messages and how many statements there were."""
    stage.sink.clear()
    with cluster(stage, database) as (writer, counter):
        writer.call("benchmarks.cluster.commit", number=0)
        wait_until(lambda: stage.sink.read().count >= 1)
        before = read_counter(counter)
        count = writer.call("benchmarks.cluster.commit_steadily", rate=100, seconds=stage.choose(0.2, 10, quick=4))
        wait_until(lambda: stage.sink.read().count >= count + 1)
        after = read_counter(counter)
    return count, (after[0] - before[0], after[1] - before[1])
