"""How long it takes from the commit to the provider, where a cluster has nothing else to do."""

import random
import time
from statistics import median

from benchmarks.cluster import cluster, wait_until
from benchmarks.stage import Stage
from benchmarks.table import Table, Target, percentile

COLUMNS = ("database", "messages", "to the first byte, p50 s", "p95 s", "to the acceptance, p50 s", "p95 s")
ABOUT = """One message at a time into an idle django-q2 cluster (ORM broker, `poll` 0.2 s), at random moments: from the return of
the commit to the mailer's MAIL command, and to its acceptance."""


def measure(stage: Stage) -> Table:
    """Enqueue now and then, and look when it arrives."""
    table = Table(name="latency", title="From commit to provider", about=ABOUT, columns=COLUMNS)
    for database in stage.databases:
        begun, accepted = [], []
        with cluster(stage, database) as (writer, _):
            for number in range(stage.choose(2, 40, 200, quick=15) + 1):
                stage.sink.clear()
                committed = writer.call("benchmarks.cluster.commit", number=number)
                wait_until(lambda: stage.sink.read().count > 0)
                seen = stage.sink.read()
                # The first one waits for the cluster to start.
                if number:
                    begun.append(seen.begun_at - committed)
                    accepted.append(seen.accepted_at - committed)
                time.sleep(random.uniform(0.3, 0.7))
        columns = [median(begun), percentile(begun, 0.95), median(accepted), percentile(accepted, 0.95)]
        table.rows.append([database, len(begun), *(round(each, 3) for each in columns)])
        what = f"latency, {database}: commit to the mailer's first byte"
        table.targets += [
            Target(what=f"{what}, p50", measured=columns[0], most=0.15, unit="s"),
            Target(what=f"{what}, p95", measured=columns[1], most=0.35, unit="s"),
        ]
    return table
