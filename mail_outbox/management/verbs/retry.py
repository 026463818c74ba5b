"""`outbox retry`: send the same entries once more."""

from typing import Any

from django.core.management.base import CommandParser

from mail_outbox.management.acting import acting_verb, steps_of
from mail_outbox.management.arguments import duration
from mail_outbox.management.verb import Options


def add_arguments(parser: CommandParser) -> None:
    """Declare what is past its expiry needs."""
    parser.add_argument("--expires-in", type=duration, metavar="TIME", help="Give them so long from now.")


def read(options: Options) -> dict[str, Any]:
    """Return the keywords of `outbox.retry`."""
    return {"expires_at": options["expires_in"]}


VERB = acting_verb(
    "retry",
    "Send the same entries once more, under the same Message-ID.",
    steps=steps_of("retry", read),
    add_arguments=add_arguments,
)
