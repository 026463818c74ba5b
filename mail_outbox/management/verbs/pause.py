"""`outbox pause`: let a mailer, or all of them, rest."""

from django.core.management.base import CommandParser

from mail_outbox import outbox
from mail_outbox.management.arguments import duration
from mail_outbox.management.verb import Options, Output, Verb, add_json


def add_arguments(parser: CommandParser) -> None:
    """Declare which mailer, why and for how long."""
    parser.add_argument("--using", metavar="ALIAS", help="Pause this mailer; without it, all of them.")
    parser.add_argument("--reason", default="", metavar="TEXT", help="Why, for whoever finds it paused.")
    parser.add_argument("--for", type=duration, dest="length", metavar="TIME", help="Until so long from now.")
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Pause it."""
    outbox.pause(options["using"], reason=options["reason"], until=options["length"])
    seconds = None if options["length"] is None else options["length"].total_seconds()
    if options["json"]:
        output.write_json(
            {"using": options["using"], "is_paused": True, "reason": options["reason"], "seconds": seconds}
        )
        return
    which = "All mailers are" if options["using"] is None else f"Mailer '{options['using']}' is"
    until = "until it is resumed" if seconds is None else f"for {seconds:g} s"
    output.write(f"{which} paused {until}. What is being sent is finished; enqueue goes on.")


VERB = Verb(name="pause", help="Let a mailer, or all of them, rest.", run=run, add_arguments=add_arguments)
