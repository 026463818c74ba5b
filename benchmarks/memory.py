"""How much memory a drain takes: with a short and with a long backlog, and with attachments."""

from pathlib import Path

from benchmarks.contenders import ours
from benchmarks.message import HTML, TEXT
from benchmarks.stage import Stage
from benchmarks.table import Table, Target

COLUMNS = ("database", "backlog", "attachment, kB", "peak MB of the draining process")
ABOUT = """The most memory (Linux' VmHWM) that one process with 8 senders held from its start to the end of a drain, with a
mailer that takes everything at once. Each row is a fresh process."""
SENDERS = 8


def measure(stage: Stage) -> Table:
    """Drain backlogs of different sizes, each in a process of its own."""
    table = Table(name="memory", title="Memory of a drain", about=ABOUT, columns=COLUMNS)
    few, many = stage.choose((5, 10), (2_000, 50_000), quick=(500, 5_000))
    for database in stage.databases:
        # First, so that neither Python's nor the database's caches are cold for the others.
        with stage.crew(ours, database, stage.null(), senders=SENDERS) as (child,):
            child.call("benchmarks.contenders.ours.clear")
        short = peak(stage, table, database, few, 0)
        long = peak(stage, table, database, many, 0)
        kilobytes = 100
        heavy = peak(stage, table, database, stage.choose(5, 1_000, quick=200), kilobytes)
        if not short:
            table.notes.append(f"{database}: the system does not say how much memory a process has held.")
            continue
        what = f"memory, {database}: backlog of {many:,} against {few:,}"
        table.targets.append(Target(what=what, measured=long / short, most=1.1, unit="x"))
        # As base64, which is what a message with it measures.
        message = (kilobytes * 1000 * 4 / 3 + len(TEXT + HTML)) / 1e6
        what = f"memory, {database}: 100 kB attachments, MB above that, in senders x message size"
        table.targets.append(Target(what=what, measured=max(0.0, heavy - short) / (SENDERS * message), most=4))
    return table


def peak(stage: Stage, table: Table, database: str, backlog: int, kilobytes: int) -> float:
    """Fill in one process, drain in another, and return what that one held."""
    with stage.crew(ours, database, stage.null(), senders=SENDERS) as (child,):
        child.call("benchmarks.contenders.ours.fill", count=backlog, attachment=kilobytes * 1000)
    with stage.crew(ours, database, stage.null(), senders=SENDERS) as (child,):
        sent = child.call("benchmarks.contenders.ours.drain")
        if sent != backlog:
            raise RuntimeError(f"{sent} of {backlog} messages were sent.")
        held: float = child.call("benchmarks.memory.most_held")
        child.call("benchmarks.contenders.ours.clear")
    table.rows.append([database, backlog, kilobytes, round(held, 1)])
    return held


def most_held() -> float:
    """Return the most memory this process has held, in MB, or 0 where nobody knows."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1024
