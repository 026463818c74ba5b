"""How fast a backlog goes out over SMTP: the outbox, the raw loop, and others, round after round."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from types import ModuleType
from typing import Any

from benchmarks.contenders import django_mailer, ours, ours_cluster, post_office, q2, raw, tasks_db
from benchmarks.crew import Child, work
from benchmarks.stage import Stage
from benchmarks.table import Table, Target, ratios

COLUMNS = (
    "database",
    "who",
    "processes x senders",
    "messages/s",
    "against the raw loop",
    "CPU ms per message",
    "peak MB",
)
ABOUT = """Messages per second from the word go to the last message in the sink, with the queue filled before. "Against the raw
loop" is the median of the ratios of neighbouring runs with the same processes and threads; the raw loop is Django's own SMTP
backend with its connections kept open and no database at all. "Stock" is Django's own rendering, "cached" ours, which makes
the same bytes. Memory is the most that all processes that send took at once, shared pages counted once, the median of the rounds; others have
filled the queue.
Where nothing else is said, `mail_outbox` is as many `outbox drain`, which share next to nothing. The workers of a cluster are
forked from one process and share what it has loaded, and so are those of django-post_office."""
IN_A_CLUSTER = "mail_outbox, in a django-q2 cluster"
CLUSTERS = (q2, ours_cluster)
"""Whose processes are started for each run, and stopped after it."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """One line of the table: who, in which shape."""

    name: str
    contender: ModuleType
    processes: int
    senders: int
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def shape(self) -> str:
        """Return processes x senders."""
        return f"{self.processes} x {self.senders}"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of one entrant came to."""

    rate: float
    cpu: float
    megabytes: float


def entrants(stage: Stage) -> Iterator[Entrant]:
    """Yield everybody, those who are compared next to each other."""
    shapes = stage.choose([(1, 2)], [(1, 1), (1, 8), (4, 1), (4, 8)])
    for processes, senders in shapes:
        yield Entrant("mail_outbox", ours, processes, senders)
        yield Entrant("raw loop", raw, processes, senders)
        yield Entrant("mail_outbox, stock", ours, processes, senders, {"rendering": "stock"})
    yield Entrant(IN_A_CLUSTER, ours_cluster, *shapes[-1])
    others = [
        Entrant("django-mailer", django_mailer, 1, 1),
        Entrant("django-post_office", post_office, 1, 5),
        Entrant("django-post_office", post_office, 4, 5),
        Entrant("django-tasks-db", tasks_db, 1, 1),
        Entrant("django-tasks-db", tasks_db, 4, 1),
        Entrant("django-q2, a task per mail", q2, 4, 1),
    ]
    yield from (entrant for entrant in others if stage.size != "tiny" and stage.has(entrant.contender))


def measure(stage: Stage) -> Table:
    """Drain again and again, and return the medians."""
    table = Table(
        name="drain", title="Drain over SMTP", about=ABOUT, columns=COLUMNS, bars_show="messages/s, 4 processes"
    )
    ceiling = sink_ceiling(stage)
    table.notes.append(f"The sink alone takes {ceiling:,.0f} messages/s from four processes that send ready bytes.")
    for database in stage.databases:
        runs = run_all(stage, database)
        for entrant, found in runs.items():
            rates = [run.rate for run in found]
            loop = next((e for e in runs if e.name == "raw loop" and e.shape == entrant.shape), None)
            table.rows.append(
                [
                    database,
                    entrant.name,
                    entrant.shape,
                    round(median(rates), 1),
                    round(ratios(rates, [run.rate for run in runs[loop]]), 2) if loop else None,
                    round(median(run.cpu for run in found), 2),
                    round(median(run.megabytes for run in found)),
                ]
            )
        table.targets += targets(runs, database)
        table.bars += [
            (f"{entrant.name} {entrant.shape} ({database})", round(median(run.rate for run in found), 1))
            for entrant, found in runs.items()
            if entrant.processes == 4
        ]
    return table


def run_all(stage: Stage, database: str) -> dict["Entrant", list[Run]]:
    """Let everybody run in turn, once to warm up and then as often as is asked for.

    The queues are filled by processes of their own: what many messages take at once is not what a drain takes.
    """
    runs: dict[Entrant, list[Run]] = defaultdict(list)
    with ExitStack() as stack:
        fillers: dict[str, Child] = {}
        crews: dict[tuple[str, str], list[Child]] = {}
        line: list[tuple[Entrant, list[Child]]] = []
        for entrant in entrants(stage):
            name = entrant.contender.__name__
            if name not in fillers:
                [fillers[name]] = stack.enter_context(stage.crew(entrant.contender, database, stage.smtp()))
            key = (name, entrant.shape)
            if key not in crews:
                crew = stage.crew(
                    entrant.contender, database, stage.smtp(), processes=entrant.processes, senders=entrant.senders
                )
                crews[key] = stack.enter_context(crew)
            line.append((entrant, crews[key]))
        for number in range(stage.repeats + 1):
            for entrant, crew in line:
                count = (
                    stage.choose(6, 50 if number == 0 else 400, 2000, quick=20 if number == 0 else 80)
                    * entrant.processes
                )
                name = entrant.contender.__name__
                fillers[name].call(f"{name}.fill", count=count)
                run = run_once(stage, entrant, crew, count)
                if number:
                    runs[entrant].append(run)
    return runs


def run_once(stage: Stage, entrant: Entrant, crew: list[Child], count: int) -> Run:
    """Drain the queue, and return how fast that was."""
    name = entrant.contender.__name__
    stage.sink.clear()
    share = count // entrant.processes if entrant.contender is raw else count
    done = work(crew, f"{name}.drain", count=share, **entrant.options)
    seen = stage.sink.read()
    if seen.count != count:
        raise RuntimeError(f"{entrant.name} has sent {seen.count} of {count} messages.")
    # A cluster takes its time to start and to stop, which is not what is compared.
    seconds = seen.accepted_at - seen.first_at if entrant.contender in CLUSTERS else done.seconds
    return Run(rate=count / seconds, cpu=done.cpu / count * 1000, megabytes=done.megabytes)


def targets(runs: dict[Entrant, list[Run]], database: str) -> Iterator[Target]:
    """Yield what performance was promised, and what it is."""
    rates = {(entrant.name, entrant.shape): [run.rate for run in found] for entrant, found in runs.items()}
    memory = {(entrant.name, entrant.shape): median(run.megabytes for run in found) for entrant, found in runs.items()}

    def compare(one: tuple[str, str], other: tuple[str, str], least: float) -> Iterator[Target]:
        if one in rates and other in rates:
            what = f"drain, {database}: {' '.join(one)} against {' '.join(other)}"
            yield Target(what=what, measured=ratios(rates[one], rates[other]), least=least, unit="x")

    cached, stock, loop, mailer, office = (
        "mail_outbox",
        "mail_outbox, stock",
        "raw loop",
        "django-mailer",
        "django-post_office",
    )
    for shape in ("1 x 1", "1 x 8", "4 x 1", "4 x 8"):
        yield from compare((stock, shape), (loop, shape), 0.95)
    for shape in ("1 x 1", "1 x 8", "4 x 1", "4 x 8"):
        yield from compare((cached, shape), (loop, shape), 1.6)
    for ours_name, shares in ((stock, (1.15, 2, 1.3)), (cached, (1.8, 3.5, 1.9))):
        yield from compare((ours_name, "1 x 8"), (office, "1 x 5"), shares[0])
        yield from compare((ours_name, "1 x 8"), (mailer, "1 x 1"), shares[1])
        yield from compare((ours_name, "4 x 8"), (office, "4 x 5"), shares[2])
    if memory.get((office, "4 x 5")):
        share = memory[cached, "4 x 8"] / memory[office, "4 x 5"]
        yield Target(
            what=f"drain, {database}: memory of 4 x 8 against {office} 4 x 5", measured=share, most=0.67, unit="x"
        )
        share = memory[IN_A_CLUSTER, "4 x 8"] / memory[office, "4 x 5"]
        what = f"drain, {database}: memory of {IN_A_CLUSTER} 4 x 8 against {office} 4 x 5"
        yield Target(what=what, measured=share, most=0.67, unit="x")
    yield from compare((cached, "4 x 8"), (cached, "1 x 8"), 3.3)


def sink_ceiling(stage: Stage) -> float:
    """Return how many messages a second the sink takes from clients that do nothing but send."""
    count = stage.choose(20, 4000, quick=500)
    with stage.crew(raw, "sqlite", stage.smtp(), processes=4) as crew:
        done = work(crew, "benchmarks.ready_bytes.send", port=stage.sink.smtp, count=count)
    return 4 * count / max(done.answers)
