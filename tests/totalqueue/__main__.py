"""Run the check: `python -m tests.totalqueue --seed 7 --database postgresql --seconds 20`; the seed repeats its faults."""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django

from tests.totalqueue import HANDED_OVER
from tests.totalqueue.databases import NAMES, OURS, Database, database
from tests.totalqueue.providers import MANNERS
from tests.totalqueue.sabotage import SABOTAGES

SHAPES = ("outbox", "batch", "row_lock")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.totalqueue", description=__doc__)
    parser.add_argument("--seed", type=int, help="which faults, and when (default: by the clock)")
    parser.add_argument("--database", choices=NAMES, default="sqlite")
    parser.add_argument("--seconds", type=float, help="how long to enqueue and to break things (default: 20)")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two faults, about")
    parser.add_argument("--clusters", type=int, help="how many qclusters")
    parser.add_argument("--drains", type=int, help="how many `outbox drain --forever`")
    parser.add_argument("--enqueuers", type=int, default=3, help="how many application processes")
    parser.add_argument("--faults", help="only these, separated by commas; none: an empty text")
    parser.add_argument("--each", action="store_true", help="every fault once, spread over the time")
    parser.add_argument("--manners", choices=sorted(MANNERS), default="steady", help="how the providers usually behave")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds the providers take for a mail")
    parser.add_argument("--sabotage", choices=SABOTAGES, default="", help="break the build on purpose")
    parser.add_argument(
        "--scenario", choices=SABOTAGES, default="", help="the faults that show such a break, without it"
    )
    parser.add_argument("--shape", choices=SHAPES, default="outbox", help="this outbox, or that of another")
    parser.add_argument(
        "--on-ambiguous", choices=("mixed", "retry", "hold"), default="mixed", help="what mails ask for"
    )
    parser.add_argument("--keep", type=Path, help="an empty directory for logs and history, which stays")
    parser.add_argument("--json", action="store_true", help="print the verdict as one JSON object")
    return parser.parse_args(arguments)


@contextmanager
def directory_of(keep: Path | None) -> Iterator[Path]:
    """Make the directory of a run."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="mail_outbox-total-queue-") as name:
        yield Path(name)


def run(options: argparse.Namespace, base: Database, directory: Path) -> dict[str, Any]:
    """Run once in this process, and return what is to be told."""
    given: dict[str, Any] = {
        "database": base.settings(name=OURS),
        "history": str(directory / "history.jsonl"),
        "sabotage": "",
        "shape": options.shape,
        "on_ambiguous": options.on_ambiguous,
        "mailers": {},
    }
    os.environ[HANDED_OVER] = json.dumps(given)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.totalqueue.settings"
    django.setup()
    # Only now: these import models.
    from tests.totalqueue import session

    return session.run(options, base, directory, given)


def main() -> int:
    """Run, tell, and return the exit code: 0 where every invariant holds."""
    options = parse(sys.argv[1:])
    # Whoever is told to go ends all that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.seed = int(time.time()) if options.seed is None else options.seed
    with directory_of(options.keep) as directory, database(options.database, directory) as base:
        told = run(options, base, directory)
    if options.json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stdout.write("".join(f"{name:22} {value}\n" for name, value in told.items()))
    return 1 if told["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
