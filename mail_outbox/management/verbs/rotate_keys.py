"""`outbox rotate-keys`: everything under the first of the keys."""

from django.core.management.base import CommandParser

from mail_outbox.management.arguments import add_database, count
from mail_outbox.management.choosing import do_if_confirmed
from mail_outbox.management.progress import add_up
from mail_outbox.management.verb import Options, Output, Verb, add_json
from mail_outbox.outbox import RotateResult
from mail_outbox.outbox.rotating import rotate_in_steps


def add_arguments(parser: CommandParser) -> None:
    """Declare how much at a time."""
    parser.add_argument("--dry-run", action="store_true", help="Only count what would be sealed.")
    parser.add_argument("--yes", action="store_true", help="Do not ask; nobody is asked but at a terminal.")
    parser.add_argument("--batch-size", type=count, default=100, metavar="N", help="Seal N rows at a time.")
    add_database(parser)
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Seal everything anew, and count it."""

    def rotate(*, dry_run: bool) -> RotateResult:
        steps = rotate_in_steps(batch_size=options["batch_size"], dry_run=dry_run, database=options["database"])
        return add_up(steps, RotateResult(), words=_counted, say=output.teller(options))

    result = do_if_confirmed(rotate, _counted, "Seal them with the first key?", options, output, is_routine=True)
    if options["json"]:
        output.write_json({**result.as_dict(), "is_dry_run": options["dry_run"]})
        return
    output.write(f"{'Would seal' if options['dry_run'] else 'Sealed'} {_counted(result)} with the first key.")
    if result.undecryptable:
        output.write(f"{result.undecryptable} could not be opened and stay as they are: their key is lost.")


def _counted(result: RotateResult) -> str:
    return f"{result.contents} contents and {result.attachments} attachments"


VERB = Verb(
    name="rotate-keys",
    help="Seal contents and attachments with the first of ENCRYPTION_KEYS.",
    run=run,
    add_arguments=add_arguments,
)
