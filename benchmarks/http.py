"""How well senders wait for an HTTP provider that takes its time."""

from statistics import median

from benchmarks.contenders import ours, raw
from benchmarks.crew import work
from benchmarks.stage import Stage
from benchmarks.table import Table, Target

COLUMNS = ("database", "who", "senders", "messages/s", "of what the latency allows", "CPU ms per message")
ABOUT = """Messages per second through Anymail's Resend backend to a provider that answers after 100 ms, in one process. The
latency alone allows senders / 0.1 s."""
MILLISECONDS = 100


def measure(stage: Stage) -> Table:
    """Drain over HTTP beside the raw loop, and return the medians."""
    table = Table(name="http", title="Drain over HTTP at 100 ms", about=ABOUT, columns=COLUMNS)
    table.bars_show = "messages/s, 32 senders, one process"
    senders = stage.choose(4, 32)
    count = stage.choose(8, 1500, 4000, quick=640)
    for database in stage.databases:
        with (
            stage.crew(ours, database, stage.http(MILLISECONDS), senders=senders) as crew,
            stage.crew(raw, database, stage.http(MILLISECONDS), senders=senders) as loop,
        ):
            for name, children, module in (("mail_outbox", crew, ours), ("raw loop", loop, raw)):
                rates, cpu = [], []
                for turn in range(stage.repeats + 1):
                    children[0].call(f"{module.__name__}.fill", count=count)
                    done = work(children, f"{module.__name__}.drain", count=count)
                    if turn:
                        rates.append(count / done.seconds)
                        cpu.append(done.cpu / count * 1000)
                allowed = median(rates) * MILLISECONDS / 1000 / senders
                table.rows.append(
                    [database, name, senders, round(median(rates), 1), round(allowed, 2), round(median(cpu), 2)]
                )
                table.bars.append((f"{name} ({database})", round(median(rates), 1)))
                if module is ours:
                    what = f"http, {database}: {senders} senders at 100 ms, of senders / 0.1 s"
                    table.targets.append(Target(what=what, measured=allowed, least=0.9))
    return table
