"""The same workload and faults for each shape of a mail queue: `python -m tests.totalqueue.compare --write PAGE`.

Prints one JSON object per run; `--write` puts the table between the marks on a page of the documentation.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

FAULTS = (
    "kill a cluster",
    "kill all clusters",
    "freeze past the lease",
    "end connections",
    "restart the database",
    "crash the database",
)
"""What happens to processes and to the database; the providers lose no answers, so that a copy tells of the queue."""
BUSY = ("--manners", "keeping answers", "--latency", "0.1", "--enqueuers", "4", "--faults", ",".join(FAULTS))
DESIGNS: dict[str, tuple[str, ...]] = {
    "a batch is marked at its end": ("--shape", "batch"),
    "a row is locked while it is sent": ("--shape", "row_lock"),
    "this outbox, `retry`": ("--on-ambiguous", "retry"),
    "this outbox, `hold`": ("--on-ambiguous", "hold"),
}
MARKS = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)


def measure(design: str, seed: int, seconds: float) -> dict[str, Any]:
    """Run once, and return what the run tells."""
    command = ["-m", "tests.totalqueue", "--json", "--database", "postgresql", "--seed", str(seed)]
    given = [*BUSY, *DESIGNS[design], "--seconds", str(seconds)]
    # A verdict that is not valid is an answer too.
    done = subprocess.run(
        [sys.executable, *command, *given], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    return {"design": design, **json.loads(done.stdout)}


def table(runs: list[dict[str, Any]]) -> str:
    """Return the runs as a table, one row for each design."""
    rows = [
        "| design | mails | second copies | of them unexplained | lost | set aside for a person |",
        "|---|---|---|---|---|---|",
    ]
    for design in DESIGNS:
        mine = [run for run in runs if run["design"] == design]
        cells = [
            " / ".join(str(run["committed"]) for run in mine),
            " / ".join(str(run["duplicates"]) for run in mine),
            " / ".join(str(_unexplained(run)) for run in mine),
            " / ".join(str(len(run["broken"].get("lost", ()))) for run in mine),
            " / ".join(
                f"{run['held']} ({run['held_and_delivered']} had arrived)" if run["held"] else "0" for run in mine
            ),
        ]
        rows.append(f"| {design} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _unexplained(run: dict[str, Any]) -> int:
    """Count the second copies that nothing on record explains: all, where nothing is recorded."""
    return run["duplicates"] if run["shape"] != "outbox" else len(run["broken"].get("unexplained", ()))


def main() -> None:
    """Measure every design with every seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.totalqueue.compare", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        for design in DESIGNS:
            runs.append(measure(design, seed, options.seconds))
            sys.stdout.write(json.dumps(runs[-1]) + "\n")
            sys.stdout.flush()
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(MARKS.sub(lambda found: found[1] + table(runs) + found[2], page), encoding="utf-8")
    sys.stdout.write(table(runs))


if __name__ == "__main__":
    main()
