"""`outbox rescue`: settle what lost workers left behind, without waiting for the sweep."""

from collections import Counter

from mail_outbox.conf import get_conf
from mail_outbox.management.progress import counted
from mail_outbox.management.verb import Options, Output, Verb, add_json
from mail_outbox.outbox import sweeping


def run(options: Options, output: Output) -> None:
    """Rescue in every database, and count."""
    counts: Counter[str] = Counter()
    for database in get_conf().databases:
        counts.update(sweeping.rescue(database=database))
    if options["json"]:
        output.write_json({"rescued": counts.total(), "states": dict(counts)})
        return
    output.write(f"{counts.total()} rescued: {counted(counts)}.")


VERB = Verb(
    name="rescue", help="Settle what lost workers left behind, once its lease is over.", run=run, add_arguments=add_json
)
