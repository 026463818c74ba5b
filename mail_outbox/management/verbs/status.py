"""`outbox status`: how the outbox is doing, once or again and again."""

import time
from typing import Any

from django.core.management.base import CommandError, CommandParser

from mail_outbox import outbox
from mail_outbox.conf import get_conf
from mail_outbox.management.arguments import count, duration, seconds
from mail_outbox.management.status import describe
from mail_outbox.management.verb import UNHEALTHY, Options, Output, Verb, add_json
from mail_outbox.outbox import Health, Problem, Stats
from mail_outbox.outbox.thresholds import Thresholds

CLEAR = "\x1b[2J\x1b[H"


def add_arguments(parser: CommandParser) -> None:
    """Declare how often, and what to call unhealthy."""
    parser.add_argument(
        "--watch", nargs="?", type=seconds, const=2.0, metavar="S", help="Show it again every S seconds: 2."
    )
    parser.add_argument(
        "--fail-if-older", type=duration, metavar="TIME", help="Exit with 3 where mail is due for longer."
    )
    parser.add_argument("--fail-if-failed", type=count, metavar="N", help="Exit with 3 where so many have failed.")
    parser.add_argument("--fail-if-no-worker", action="store_true", help="Exit with 3 where no worker is alive.")
    parser.add_argument(
        "--fail-if-unhealthy", action="store_true", help="Exit with 3 where anything keeps mail from flowing."
    )
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Show how the outbox is doing, in each of its databases; raise where a threshold is crossed."""
    thresholds = Thresholds(
        older=options["fail_if_older"],
        failed=options["fail_if_failed"],
        no_worker=options["fail_if_no_worker"],
        any_problem=options["fail_if_unhealthy"],
    )
    try:
        while True:
            _show(thresholds, options, output)
            if options["watch"] is None:
                return
            time.sleep(options["watch"])
    except KeyboardInterrupt:
        # That is how one ends a watch.
        if options["watch"] is None:
            raise


def _show(thresholds: Thresholds, options: Options, output: Output) -> None:
    looks = [_look(thresholds, database) for database in get_conf().databases]
    if options["json"]:
        first, *others = [_as_dict(*look) for look in looks]
        output.write_json({**first, "others": others})
    else:
        if options["watch"] is not None and output.stdout.isatty():
            output.write(CLEAR)
        for database, stats, health, _ in looks:
            if len(looks) > 1:
                output.write(f"Database {database}")
            output.write("\n".join([*describe(stats), *_told(health)]))
    crossed = [problem.text for *_, problems in looks for problem in problems]
    if crossed:
        raise CommandError(" ".join(dict.fromkeys(crossed)), returncode=UNHEALTHY)


def _look(thresholds: Thresholds, database: str) -> tuple[str, Stats, Health, list[Problem]]:
    stats, health = outbox.stats(database=database), thresholds.judge(database=database)
    return database, stats, health, thresholds.crossed(health, stats)


def _as_dict(database: str, stats: Stats, health: Health, crossed: list[Problem]) -> dict[str, Any]:
    return {
        "database": database,
        **stats.as_dict(),
        "is_flowing": health.is_flowing,
        "problems": [_problem(problem) for problem in health.problems],
        "crossed": [_problem(problem) for problem in crossed],
    }


def _problem(problem: Problem) -> dict[str, str]:
    return {"code": problem.code, "text": problem.text, "mailer": problem.mailer}


def _told(health: Health) -> list[str]:
    return [f"TROUBLE: {problem.text}" for problem in health.problems] or ["Mail flows."]


VERB = Verb(name="status", help="Show how the outbox is doing.", run=run, add_arguments=add_arguments)
