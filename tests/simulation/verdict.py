"""From a world that has come to rest to the verdict of the checker that judges real processes, too."""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from django.db.models import Sum

from mail_outbox.conf import get_conf
from mail_outbox.core.outcomes import Kind
from mail_outbox.models import Attempt, AttemptCount, OutboxEntry, Recipient, RecipientStatus
from tests.totalqueue.checker import Evidence, Row, Verdict, check

if TYPE_CHECKING:
    from tests.simulation.world import World


def read_rows(world: "World") -> list[Row]:
    """Return every entry as the checker wants to see it."""
    kinds: dict[int, list[str]] = defaultdict(list)
    recognised: Counter[int] = Counter()
    attempts = Attempt.objects.order_by("pk").values_list("entry", "kind", "started_at", "entry__recognised_until")
    for entry, kind, started_at, recognised_until in attempts:
        kinds[entry].append(kind)
        if kind == Kind.AMBIGUOUS and recognised_until is not None and started_at < recognised_until:
            recognised[entry] += 1
    accepted: dict[int, set[str]] = defaultdict(set)
    for entry, address in Recipient.objects.filter(status=RecipientStatus.ACCEPTED).values_list("entry", "address"):
        accepted[entry].add(address)
    most = get_conf().max_attempts
    return [
        Row(
            key=entry.message_id,
            state=entry.state,
            reason=entry.state_reason,
            on_ambiguous=entry.on_ambiguous,
            attempts=entry.attempts,
            max_attempts=most if entry.max_attempts is None else entry.max_attempts,
            kinds=tuple(kinds[entry.pk]),
            accepted=frozenset(accepted[entry.pk]),
            has_claim=entry.claim_id is not None,
            put_back=world.watch.put_back[entry.pk],
            recognised=recognised[entry.pk],
            is_vouched_for=entry.pk in world.watch.vouched,
        )
        for entry in OutboxEntry.objects.order_by("pk")
    ]


def judge(world: "World") -> Verdict:
    """Judge what has become of everything."""
    return check(
        Evidence(
            fates=world.fates,
            accepts=world.journal.accepts,
            rows=[*read_rows(world), *world.pruned],
            settled=frozenset(world.settled),
        )
    )


def miscounted(world: "World") -> str:
    """Say by how much the counts of attempts are wrong, or nothing; to be asked once everything has been counted."""
    there = Attempt.objects.count() + world.pruned_attempts
    counted = AttemptCount.objects.aggregate(sum=Sum("count"))["sum"] or 0
    return "" if there == counted else f"{there} attempts were made and {counted} are counted"
