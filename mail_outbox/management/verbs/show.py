"""`outbox show`: one entry, and all that happened to it."""

from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser

from mail_outbox.conf import get_conf
from mail_outbox.management.arguments import add_database
from mail_outbox.management.entries import details, subject_of
from mail_outbox.management.verb import Options, Output, Verb, add_json
from mail_outbox.models import OutboxEntry
from mail_outbox.outbox.options import check_database
from mail_outbox.outbox.preview import preview


def add_arguments(parser: CommandParser) -> None:
    """Declare which entry, and how to show it."""
    parser.add_argument("id", type=int, metavar="ID", help="The entry, by its id.")
    add_database(parser)
    parser.add_argument("--eml", action="store_true", help="Print the mail itself, as it was or will be sent.")
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Show the entry, its recipients and its attempts, or the mail itself."""
    database = check_database(options["database"], get_conf())
    entry = OutboxEntry.objects.using(database).filter(pk=options["id"]).first()
    if entry is None:
        raise CommandError(f"No entry {options['id']} in database '{database}'. Find it with: outbox list --to ADDRESS")
    if options["eml"]:
        output.write_bytes(preview(entry).source)
        return
    values = details(entry)
    if options["json"]:
        output.write_json(values)
        return
    output.write("\n".join(describe(entry, values)))


def describe(entry: OutboxEntry, values: dict[str, Any]) -> Iterator[str]:
    """Yield the lines about the entry, from what it is to what happened to it."""
    reason = f": {values['state_reason']}" if entry.state_reason else ""
    yield f"Entry {entry.pk} is {entry.state}{reason}"
    yield f"Subject: {subject_of(entry)}"
    route = f" (route {entry.route})" if entry.route else ""
    yield f"Mailer: {entry.using}{route}, priority {entry.priority}"
    yield f"Message-ID: {entry.message_id}"
    yield f"Enqueued: {entry.created_at:%Y-%m-%d %H:%M:%S}, due: {entry.due_at:%Y-%m-%d %H:%M:%S} UTC"
    for each in values["recipients"]:
        yield "  " + _joined(each["role"], each["address"], each["status"], each["code"], each["text"])
    if not values["history"]:
        yield "Nothing was attempted."
    for each in values["history"]:
        took = "" if each["duration_ms"] is None else f"{each['duration_ms']} ms"
        when = each["started_at"][:19].replace("T", " ")
        answer = _joined(each["kind"], each["code"], each["text"], each["provider_message_id"])
        yield f"Attempt {each['number']}: " + _joined(when, each["using"], took, answer)


def _joined(*words: str) -> str:
    return "  ".join(filter(None, words))


VERB = Verb(name="show", help="Show one entry, and all that happened to it.", run=run, add_arguments=add_arguments)
