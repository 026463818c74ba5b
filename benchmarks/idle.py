"""What an idle cluster asks its database, with the outbox in it."""

import time
from functools import partial

from benchmarks.apps import read_counter
from benchmarks.cluster import cluster, wait_until
from benchmarks.stage import Stage
from benchmarks.table import Table, Target

COLUMNS = ("database", "seconds", "statements/s", "of them about the outbox")
ABOUT = """SQL statements a second of an idle django-q2 cluster (one worker, ORM broker, `poll` 0.2 s). What is not about the
outbox is what the cluster costs without it, plus two or three statements each minute for the schedule of the sweep."""


def measure(stage: Stage) -> Table:
    """Wait, and count."""
    table = Table(name="idle", title="An idle cluster", about=ABOUT, columns=COLUMNS)
    seconds = stage.choose(0.5, 120.0, 600.0, quick=60.0)
    for database in stage.databases:
        stage.sink.clear()
        with cluster(stage, database) as (writer, counter):
            writer.call("benchmarks.cluster.commit", number=0)
            wait_until(lambda: stage.sink.read().count >= 1)
            # Until sweeps have counted its attempt, too: that is work, which an idle worker has none of.
            if stage.size != "tiny":
                wait_until(partial(writer.call, "benchmarks.cluster.is_counted"), seconds=300.0, every=1.0)
            time.sleep(min(5.0, seconds))
            before = read_counter(counter)
            time.sleep(seconds)
            after = read_counter(counter)
        rates = [(later - earlier) / seconds for earlier, later in zip(before, after, strict=True)]
        table.rows.append([database, round(seconds), *(round(rate, 3) for rate in rates)])
        what = f"idle, {database}: statements about the outbox"
        table.targets.append(Target(what=what, measured=rates[1], most=0.1, unit="/s"))
    return table
