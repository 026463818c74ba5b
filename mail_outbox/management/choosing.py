"""Which entries a verb is for: ids, or a selection; shown, counted, and asked about."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from django.core.management.base import CommandError, CommandParser

from mail_outbox.conf import get_conf
from mail_outbox.core.states import State
from mail_outbox.management.arguments import add_database, count, duration
from mail_outbox.management.entries import line_of
from mail_outbox.management.verb import ERROR, USAGE, Options, Output
from mail_outbox.models import OutboxEntry
from mail_outbox.outbox.options import check_database
from mail_outbox.outbox.selecting import Selection

SAMPLE = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The entries a person has chosen, by primary key, with a few of them to look at."""

    database: str
    keys: Sequence[int]
    missing: int
    states: Mapping[str, int]
    sample: Sequence[OutboxEntry]


def add_filters(parser: CommandParser) -> None:
    """Declare what entries can be chosen by."""
    parser.add_argument("--state", choices=[state.value for state in State], metavar="STATE", help="Only these.")
    parser.add_argument("--error", metavar="TEXT", help="Only those whose last answer has this code, or says this.")
    parser.add_argument("--since", type=duration, metavar="TIME", help="Only what ended, or came, so long ago at most.")
    parser.add_argument("--to", metavar="ADDRESS", help="Only what is addressed to this mailbox.")
    parser.add_argument("--using", metavar="ALIAS", help="Only what goes through this mailer.")
    parser.add_argument("--tag", metavar="TAG", help="Only what carries this tag.")
    parser.add_argument("--template", metavar="NAME", help="Only what comes from this template.")
    add_database(parser)


def add_choice(parser: CommandParser) -> None:
    """Declare ids, a selection, and the caution of everything that changes many entries."""
    parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="The entries, by their ids.")
    add_filters(parser)
    parser.add_argument("--limit", type=count, metavar="N", help="At most so many, the oldest first.")
    parser.add_argument("--dry-run", action="store_true", help="Only show how many there are, and some of them.")
    parser.add_argument("--yes", action="store_true", help="Do not ask.")


def selection_of(options: Options) -> Selection:
    """Return what the options ask of an entry."""
    return Selection(
        keys=tuple(options.get("ids") or ()),
        state=None if options["state"] is None else State(options["state"]),
        error=options["error"] or "",
        since=options["since"],
        to=options["to"] or "",
        using=options["using"] or "",
        tag=options["tag"] or "",
        template=options["template"] or "",
    )


def choose(options: Options) -> Choice:
    """Find the entries; raises CommandError where neither ids nor a selection is given."""
    selection = selection_of(options)
    if selection.is_empty:
        raise CommandError("Name entries by their ids, or choose them, as in --state failed.", returncode=USAGE)
    database = check_database(options["database"], get_conf())
    rows = list(selection.entries(database=database).values_list("pk", "state")[: options["limit"]])
    states: dict[str, int] = {}
    for _, state in rows:
        states[state] = states.get(state, 0) + 1
    keys = [key for key, _ in rows]
    first = OutboxEntry.objects.using(database).filter(pk__in=keys[:SAMPLE]).order_by("pk")
    return Choice(
        database=database,
        keys=keys,
        # Other filters may leave out what is there.
        missing=len(set(selection.keys)) - len(keys) if selection == Selection(keys=selection.keys) else 0,
        states=states,
        sample=list(first),
    )


def describe(choice: Choice) -> str:
    """Tell how many were chosen, by state, and show the first few."""
    counts = ", ".join(f"{number} {state}" for state, number in sorted(choice.states.items()))
    lines = [f"{len(choice.keys)} entries{': ' + counts if counts else ''}"]
    lines += [f"  {line_of(entry)}" for entry in choice.sample]
    if len(choice.keys) > len(choice.sample):
        lines.append(f"  … and {len(choice.keys) - len(choice.sample)} more")
    return "\n".join(lines)


def do_if_confirmed(
    act: Callable[..., T],
    words: Callable[[T], str],
    question: str,
    options: Options,
    output: Output,
    *,
    is_routine: bool = False,
) -> T:
    """Count by `act(dry_run=True)`, ask, then do it, and return the result; a dry run only counts.

    What `is_routine` is asked about at a terminal only: cron may do it unasked, because the sweep does.
    """
    if options["dry_run"]:
        return act(dry_run=True)
    if not options["yes"] and not (is_routine and not sys.stdin.isatty()):
        output.say(f"{words(act(dry_run=True))}.")
        confirm(question, options, output)
    return act(dry_run=False)


def confirm(question: str, options: Options, output: Output) -> None:
    """Ask, unless told not to; raises CommandError where the answer is no, or nobody is there to answer."""
    if options["yes"]:
        return
    if not sys.stdin.isatty():
        raise CommandError("Nobody is there to ask: look with --dry-run, then say --yes.", returncode=USAGE)
    output.say(f"{question} [y/N] ")
    try:
        answer = input()
    except EOFError:
        answer = ""
    if answer.strip().lower() not in {"y", "yes"}:
        raise CommandError("Nothing was done.", returncode=ERROR)
