"""`python -m benchmarks drain`: measure one table, or all of them with `--all`, and write the results down."""

import argparse
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

from benchmarks import page
from benchmarks.machine import describe
from benchmarks.stage import SIZES, Stage, databases_there, stage
from benchmarks.table import RESULTS, markdown

TABLES = ("drain", "enqueue", "latency", "memory", "claim", "statements", "http", "prune", "idle")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; return 0 even where a target was missed: that is a result."""
    options = parse(arguments)
    if options.tables == ["page"]:
        page.write(options.results)
        return 0
    # Asked to stop, it ends its processes and drops its databases.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    there = databases_there()
    databases = [name for name in options.database if name in there]
    with stage(size=options.size, repeats=options.repeats, databases=databases) as here:
        for missing in sorted(set(options.database) - set(there)):
            here.skip(f"{missing} does not answer")
        for name in TABLES if options.all else options.tables:
            run(name, here, options.results)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "tables", nargs="*", metavar="table", help=f"{', '.join(TABLES)}; or page, to write the page only"
    )
    parser.add_argument("--all", action="store_true", help="measure every table")
    parser.add_argument("--size", choices=SIZES, default="usual", help="how much is measured")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="rounds, after one to warm up")
    parser.add_argument("--database", action="append", choices=["sqlite", "postgresql"], help="may be given twice")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the JSON goes")
    options = parser.parse_args(arguments)
    options.database = options.database or ["sqlite", "postgresql"]
    unknown = set(options.tables) - {*TABLES, "page"}
    if unknown or not (options.all or options.tables):
        parser.error(f"name one of {', '.join(TABLES)}, or --all")
    return options


def run(name: str, here: Stage, results: Path) -> None:
    """Measure one table, print it and write it."""
    machine = describe(here.databases)
    table = import_module(f"benchmarks.{name}").measure(here)
    machine["load_average_after"] = round(os.getloadavg()[0], 1)
    circumstances = {"machine": machine, "size": here.size, "repeats": here.repeats, "skipped": here.skipped}
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{name}.json").write_text(table.as_json(**circumstances), encoding="utf-8")
    print(f"\n{table.title} (load {machine['load_average_before']} to {machine['load_average_after']})\n")
    print(markdown(table.columns, table.rows))
    for note in table.notes:
        print(f"\n{note}")
    for target in table.targets:
        print(f"{target.verdict:>16}  {target.aim:>8}  {target.measured:8.3f}  {target.what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
