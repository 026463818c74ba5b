"""`outbox resume`: let a mailer, or all of them, work again."""

from django.core.management.base import CommandParser

from mail_outbox import outbox
from mail_outbox.management.verb import Options, Output, Verb, add_json


def add_arguments(parser: CommandParser) -> None:
    """Declare which mailer."""
    parser.add_argument("--using", metavar="ALIAS", help="Resume this mailer; without it, all of them.")
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Undo a pause, and forget the mailer's troubles."""
    outbox.resume(options["using"])
    if options["json"]:
        output.write_json({"using": options["using"], "is_paused": False})
        return
    which = "All mailers work" if options["using"] is None else f"Mailer '{options['using']}' works"
    output.write(
        f"{which} again. A pause of all mailers, or MAIL_OUTBOX['PAUSED'], is another matter: see outbox status."
    )


VERB = Verb(name="resume", help="Let a mailer, or all of them, work again.", run=run, add_arguments=add_arguments)
