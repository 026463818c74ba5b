"""`outbox adopt`: let this deployment send what is in the database."""

from django.core.management.base import CommandParser

from mail_outbox import outbox
from mail_outbox.conf import get_conf
from mail_outbox.core.states import UNFINISHED
from mail_outbox.drain.instances import find_stranger
from mail_outbox.management.arguments import add_database
from mail_outbox.management.choosing import confirm
from mail_outbox.management.verb import Options, Output, Verb, add_json
from mail_outbox.models import OutboxEntry
from mail_outbox.outbox.options import check_database


def add_arguments(parser: CommandParser) -> None:
    """Declare which database, and whether to ask."""
    parser.add_argument("--dry-run", action="store_true", help="Only tell whose it is, and how much would go out.")
    parser.add_argument("--yes", action="store_true", help="Do not ask.")
    add_database(parser)
    add_json(parser)


def run(options: Options, output: Output) -> None:
    """Tell what would go out, ask, and adopt."""
    conf = get_conf()
    databases = conf.databases if options["database"] is None else (check_database(options["database"], conf),)
    strangers = {alias: stranger for alias in databases if (stranger := find_stranger(database=alias))}
    waiting = {alias: OutboxEntry.objects.using(alias).filter(state__in=UNFINISHED).count() for alias in strangers}
    for alias, stranger in strangers.items():
        output.say(f"Database '{alias}' belongs to '{stranger.owner}'; '{stranger.instance}' would adopt it.")
        output.say(f"{waiting[alias]} entries wait there and would be sent from here, perhaps a second time.")
    if strangers and not options["dry_run"]:
        confirm("Adopt?", options, output)
        for alias in strangers:
            outbox.adopt(database=alias)
    if options["json"]:
        output.write_json({"databases": list(strangers), "waiting": waiting, "is_dry_run": options["dry_run"]})
    elif not strangers:
        output.write("Nothing to adopt: no database here belongs to another deployment.")
    else:
        output.write(f"{'Would adopt' if options['dry_run'] else 'Adopted'}: {', '.join(strangers)}.")


VERB = Verb(
    name="adopt",
    help="Let this deployment send what is in a database that belonged to another.",
    run=run,
    add_arguments=add_arguments,
)
