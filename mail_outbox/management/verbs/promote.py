"""`outbox promote`: move what has become due to the queue, without waiting for the sweep."""

from mail_outbox.conf import get_conf
from mail_outbox.management.verb import Options, Output, Verb, add_json
from mail_outbox.outbox import sweeping


def run(options: Options, output: Output) -> None:
    """Promote in every database, and count."""
    promoted = expired = 0
    for database in get_conf().databases:
        moved, over = sweeping.promote(database=database)
        promoted, expired = promoted + moved, expired + over
    if options["json"]:
        output.write_json({"promoted": promoted, "expired": expired})
        return
    output.write(f"{promoted} promoted, {expired} expired.")


VERB = Verb(name="promote", help="Move what has become due to the queue.", run=run, add_arguments=add_json)
