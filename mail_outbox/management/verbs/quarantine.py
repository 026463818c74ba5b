"""`outbox quarantine`: set aside what a failover has brought back."""

from django.core.management.base import CommandParser

from mail_outbox import outbox
from mail_outbox.management.arguments import add_database, moment
from mail_outbox.management.choosing import confirm
from mail_outbox.management.verb import Options, Output, Verb, add_json


def add_arguments(parser: CommandParser) -> None:
    """Declare since when, and the caution of everything that changes many entries."""
    help_ = "The last moment the replica is known to have had: 2026-11-21T09:58, or 30m ago."
    parser.add_argument("--since", type=moment, required=True, metavar="WHEN", help=help_)
    parser.add_argument("--dry-run", action="store_true", help="Only count what would be set aside.")
    parser.add_argument("--yes", action="store_true", help="Do not ask.")
    add_database(parser)
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Count, ask, and set aside."""
    since = options["since"]
    expected = outbox.quarantine(since, dry_run=True, database=options["database"])
    if not options["json"]:
        output.say(f"{expected.held} entries came due since then or are claimed.")
        if expected.due_before:
            output.say(f"{expected.due_before} more wait that had come due before: an earlier --since takes them in.")
    result = expected
    if not options["dry_run"] and expected.held:
        confirm(f"Hold {expected.held} entries?", options, output)
        result = outbox.quarantine(since, database=options["database"])
    if options["json"]:
        output.write_json({**result.as_dict(), "is_dry_run": options["dry_run"]})
        return
    output.write(f"{'Would hold' if options['dry_run'] else 'Held'} {result.held} entries.")


VERB = Verb(
    name="quarantine",
    help="Hold what may have been sent already, after a failover to a replica that lagged behind.",
    run=run,
    add_arguments=add_arguments,
)
