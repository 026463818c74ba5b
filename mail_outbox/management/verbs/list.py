"""`outbox list`: find entries."""

from django.core.management.base import CommandParser

from mail_outbox.conf import get_conf
from mail_outbox.management.arguments import count
from mail_outbox.management.choosing import add_filters, selection_of
from mail_outbox.management.entries import as_dict, line_of
from mail_outbox.management.verb import Options, Output, Verb, add_json
from mail_outbox.outbox.options import check_database


def add_arguments(parser: CommandParser) -> None:
    """Declare the filters, and how many."""
    add_filters(parser)
    parser.add_argument("--limit", type=count, default=20, metavar="N", help="At most so many, the newest first.")
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Show the newest entries that fit."""
    database = check_database(options["database"], get_conf())
    found = selection_of(options).entries(database=database).order_by("-pk")
    entries = list(found[: options["limit"] + 1])
    is_more, entries = len(entries) > options["limit"], entries[: options["limit"]]
    if options["json"]:
        output.write_json({"entries": [as_dict(entry) for entry in entries], "is_more": is_more})
        return
    for entry in entries:
        output.write(line_of(entry))
    if is_more:
        output.say(f"There are more; --limit {options['limit'] * 10} shows them.")
    elif not entries:
        output.say("No entry fits.")


VERB = Verb(name="list", help="Find entries.", run=run, add_arguments=add_arguments)
