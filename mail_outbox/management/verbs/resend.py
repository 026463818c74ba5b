"""`outbox resend`: send the contents of finished entries again, as new entries."""

from collections.abc import Iterator

from django.core.management.base import CommandParser

from mail_outbox import outbox
from mail_outbox.core.states import FINISHED
from mail_outbox.management.acting import Step, acting_verb
from mail_outbox.management.choosing import Choice
from mail_outbox.management.verb import Options
from mail_outbox.models import OutboxEntry
from mail_outbox.outbox.options import check_using

CHUNK = 100


def add_arguments(parser: CommandParser) -> None:
    """Declare through whom, and to whom instead."""
    parser.add_argument("--through", metavar="ALIAS", help="Send them through this mailer or route.")
    parser.add_argument(
        "--recipient",
        metavar="ADDRESS",
        action="append",
        help="Send them to this address, not to those they were for; may be given several times.",
    )


def steps(choice: Choice, options: Options) -> Iterator[Step]:
    """Write one new entry after the other, each with a commit of its own."""
    through = None if options["through"] is None else check_using(options["through"])
    for start in range(0, len(choice.keys), CHUNK):
        entries = OutboxEntry.objects.using(choice.database).in_bulk(choice.keys[start : start + CHUNK])
        for key in choice.keys[start : start + CHUNK]:
            yield _resend(entries.get(key), through, options["recipient"])


def _resend(entry: OutboxEntry | None, through: str | None, to: list[str] | None) -> Step:
    if entry is None:
        return 0, {"no longer there": 1}
    if entry.state not in FINISHED:
        return 0, {entry.state: 1}
    try:
        outbox.resend(entry, using=through, to=to)
    except outbox.UnreadableEnvelope:
        return 0, {"without a content that can be read": 1}
    except (outbox.WrongState, OutboxEntry.DoesNotExist):
        return 0, {"changed meanwhile": 1}
    except (outbox.InvalidMessage, outbox.UnserializableMessage, outbox.UnknownMailer) as error:
        return 0, {f"not accepted ({type(error).__name__})": 1}
    return 1, {}


VERB = acting_verb(
    "resend",
    "Send the contents of finished entries again, as new entries.",
    steps=steps,
    add_arguments=add_arguments,
)
