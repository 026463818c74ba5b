"""What there is to do besides sending, seen in one look."""

from collections.abc import Collection
from dataclasses import dataclass

from mail_outbox.core.states import Verb, sources
from mail_outbox.drain.instances import owned
from mail_outbox.models import MailerState, OutboxEntry
from mail_outbox.models.asking import ask_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Chores:
    """Whether the database is this deployment's, whether mailers have a state, and what waits for whom."""

    is_ours: bool
    has_states: bool
    is_due: bool
    is_over: bool
    is_stuck: bool
    without_work: frozenset[str]


def look_around(mailers: Collection[str], *, database: str) -> Chores:
    """Return what there is to do."""
    entries = OutboxEntry.objects.using(database)
    there = ask_all(
        {
            "ours": owned(database=database),
            "states": MailerState.objects.using(database).all(),
            "due": entries.due_to_promote(),
            **{f"over {state}": entries.due_to_expire(state) for state in sources(Verb.EXPIRE)},
            "stuck": entries.stuck(),
            **{("queued", alias): entries.queued(alias) for alias in mailers},
        },
        database=database,
    )
    return Chores(
        is_ours="ours" in there,
        has_states="states" in there,
        is_due="due" in there,
        is_over=any(f"over {state}" in there for state in sources(Verb.EXPIRE)),
        is_stuck="stuck" in there,
        without_work=frozenset(alias for alias in mailers if ("queued", alias) not in there),
    )
