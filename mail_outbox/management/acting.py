"""One verb on all entries that were chosen: asked about, in chunks, with progress and truthful counts."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.management.base import CommandError, CommandParser

from mail_outbox.management.choosing import Choice, add_choice, choose, confirm, describe
from mail_outbox.management.entries import as_dict
from mail_outbox.management.progress import Ticker
from mail_outbox.management.verb import INTERRUPTED, Options, Output, Verb, add_json
from mail_outbox.outbox.bulk import act_on_many

Step = tuple[int, Mapping[str, int]]
"""How many were done, and how many were skipped for which reason."""
Steps = Callable[[Choice, Options], Iterator[Step]]


@dataclass(slots=True)
class Sum:
    """What has been done so far."""

    done: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    is_interrupted: bool = False

    def add(self, step: Step) -> None:
        """Count one step."""
        self.done += step[0]
        self.skipped.update(step[1])

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
        return f"{self.done} done, {self.skipped.total()} skipped" + (f" ({reasons})" if reasons else "")


def acting_verb(
    name: str,
    help_: str,
    *,
    steps: Steps,
    add_arguments: Callable[[CommandParser], None] = lambda _: None,
) -> Verb:
    """Make a verb that acts on ids or on a selection."""

    def declare(parser: CommandParser) -> None:
        add_choice(parser)
        add_arguments(parser)
        add_json(parser)

    def run(options: Options, output: Output) -> None:
        _run(name, steps, options, output)

    return Verb(name=name, help=help_, run=run, add_arguments=declare)


def reasoned_verb(name: str, help_: str) -> Verb:
    """Make a verb of the outbox's that wants to be told why."""

    def add_arguments(parser: CommandParser) -> None:
        parser.add_argument("--reason", default="by hand", metavar="TEXT", help="Why, for whoever finds them.")

    steps = steps_of(name, lambda options: {"reason": options["reason"]})
    return acting_verb(name, help_, steps=steps, add_arguments=add_arguments)


def steps_of(name: str, read: Callable[[Options], dict[str, Any]] = lambda _: {}) -> Steps:
    """Return the steps of one of the outbox's verbs; `read` makes its keywords of the options."""

    def steps(choice: Choice, options: Options) -> Iterator[Step]:
        for report in act_on_many(name, choice.keys, database=choice.database, **read(options)):
            yield len(report.done), report.skipped

    return steps


def _run(name: str, steps: Steps, options: Options, output: Output) -> None:
    started = time.monotonic()
    choice = choose(options)
    if not options["json"]:
        output.say(describe(choice))
    total = Sum()
    if choice.missing:
        total.skipped["no longer there"] = choice.missing
    if not options["dry_run"] and choice.keys:
        confirm(f"{name.capitalize()} {len(choice.keys)} entries?", options, output)
        _take(steps(choice, options), choice, total, Ticker(output.teller(options)))
    _report(name, choice, total, options, output, took=time.monotonic() - started)
    if total.is_interrupted:
        raise CommandError("Interrupted; what is counted as done is done.", returncode=INTERRUPTED)


def _take(steps: Iterator[Step], choice: Choice, total: Sum, ticker: Ticker) -> None:
    try:
        for step in steps:
            total.add(step)
            ticker.tell(lambda: f"{total} of {len(choice.keys)}")
    except KeyboardInterrupt:
        total.is_interrupted = True


def _report(name: str, choice: Choice, total: Sum, options: Options, output: Output, *, took: float) -> None:
    if not options["json"]:
        output.write(f"{name}: nothing done, this was a dry run" if options["dry_run"] else f"{name}: {total}")
        return
    output.write_json(
        {
            "verb": name,
            "selected": len(choice.keys),
            "states": dict(choice.states),
            "done": total.done,
            "skipped": dict(total.skipped),
            "is_dry_run": options["dry_run"],
            "is_interrupted": total.is_interrupted,
            "sample": [as_dict(entry) for entry in choice.sample],
            "seconds": round(took, 3),
        }
    )
