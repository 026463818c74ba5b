"""`outbox erase`: forget a person."""

from django.core.management.base import CommandParser

from mail_outbox.management.arguments import add_database
from mail_outbox.management.choosing import do_if_confirmed
from mail_outbox.management.progress import add_up
from mail_outbox.management.verb import Options, Output, Verb, add_json
from mail_outbox.outbox import EraseResult
from mail_outbox.outbox.erasing import erase_in_steps


def add_arguments(parser: CommandParser) -> None:
    """Declare whom, and the caution of what cannot be undone."""
    parser.add_argument("address", metavar="ADDRESS", help="The person's address.")
    parser.add_argument("--dry-run", action="store_true", help="Only count what would be erased.")
    parser.add_argument("--yes", action="store_true", help="Do not ask.")
    add_database(parser)
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Count, ask, erase, and say what is left."""

    def erase(*, dry_run: bool) -> EraseResult:
        steps = erase_in_steps(options["address"], dry_run=dry_run, database=options["database"])
        return add_up(steps, EraseResult(), words=_counted, say=output.teller(options))

    result = do_if_confirmed(erase, _counted, "Erase this for good?", options, output)
    if options["json"]:
        output.write_json({**result.as_dict(), "is_dry_run": options["dry_run"]})
        return
    output.write(f"{'Would erase' if options['dry_run'] else 'Erased'}: {_counted(result)}.")
    for line in _left(result):
        output.write(line)


def _counted(result: EraseResult) -> str:
    return (
        f"{result.entries} entries ({result.cancelled} of them not sent yet), {result.contents} contents, "
        f"{result.attachments} attachments, {result.recipients} recipients, {result.events} delivery events, "
        f"{result.texts} texts, {result.suppressions} suppressions under a pseudonym"
    )


def _left(result: EraseResult) -> list[str]:
    lines = {
        f"{result.waiting} messages still have to go to others, and lose their content after that.": result.waiting,
        f"{result.sending} are being sent: erase again in a minute.": result.sending,
        f"{result.unsearched} contents or attachments could not be searched.": result.unsearched,
        f"{result.files} files are still to be deleted: the sweep goes on.": result.files,
    }
    return [line for line, count in lines.items() if count]


VERB = Verb(
    name="erase", help="Erase one person's data wherever the outbox has it.", run=run, add_arguments=add_arguments
)
