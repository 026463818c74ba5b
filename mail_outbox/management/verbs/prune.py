"""`outbox prune`: remove what finished long ago."""

from django.core.management.base import CommandParser

from mail_outbox import outbox
from mail_outbox.management.arguments import count
from mail_outbox.management.choosing import do_if_confirmed
from mail_outbox.management.progress import add_up
from mail_outbox.management.verb import Options, Output, Verb, add_json
from mail_outbox.outbox import PruneResult
from mail_outbox.outbox.pruning import prune_in_steps
from mail_outbox.transitions import BATCH


def add_arguments(parser: CommandParser) -> None:
    """Declare how much at a time, and whether at all."""
    parser.add_argument("--dry-run", action="store_true", help="Only count what would be removed.")
    parser.add_argument("--yes", action="store_true", help="Do not ask; nobody is asked but at a terminal.")
    parser.add_argument("--batch-size", type=count, default=BATCH, metavar="N", help="Remove N entries at a time.")
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Remove it, or count it."""

    def prune(*, dry_run: bool) -> PruneResult:
        if dry_run:
            return outbox.prune(dry_run=True)
        steps = prune_in_steps(batch_size=options["batch_size"])
        return add_up(steps, PruneResult(), words=_counted, say=output.teller(options))

    result = do_if_confirmed(prune, _counted, "Remove this for good?", options, output, is_routine=True)
    if options["json"]:
        output.write_json({**result.as_dict(), "is_dry_run": options["dry_run"]})
        return
    output.write(f"{'Would remove' if options['dry_run'] else 'Removed'} {_counted(result)}.")


def _counted(result: PruneResult) -> str:
    return (
        f"{result.entries} entries with {result.attempts} attempts, the content of {result.contents} more, "
        f"{result.attachments} attachments, and {result.files} files"
    )


VERB = Verb(
    name="prune", help="Remove what finished long ago, as RETENTION says.", run=run, add_arguments=add_arguments
)
