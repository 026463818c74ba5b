"""Counting against counting and pruning: each attempt is counted once, whoever comes first."""

from collections import Counter
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models import F, Sum

from mail_outbox import outbox, transitions
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, AttemptCount, CountMark, OutboxEntry, UtcNow
from tests.races.parallel import at_once
from tests.support import a_message

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

COUNT, ROUNDS = 300, 40


def count() -> None:
    """Count a few, time and again."""
    for _ in range(ROUNDS):
        transitions.count_attempts(limit=7, database="default")


def prune() -> None:
    """Remove a few, time and again."""
    for _ in range(ROUNDS):
        transitions.prune_entries(State.SENT, timedelta(0), limit=5, database="default")


def test_each_attempt_is_counted_once():
    entries = outbox.enqueue_many(a_message() for _ in range(COUNT))
    OutboxEntry.objects.update(state=State.SENT, finished_at=UtcNow() - timedelta(days=1))
    attempts = Attempt.objects.bulk_create(
        Attempt(
            entry=entry,
            number=1,
            claim_id=uuid4(),
            using="default",
            started_at=UtcNow(),
            duration=timedelta(0),
            kind=kind,
        )
        for entry, kind in zip(entries, ["sent", "sent", "permanent"] * (COUNT // 3), strict=True)
    )
    CountMark.objects.create(
        counted_to=min(attempt.pk for attempt in Attempt.objects.all()) - 1,
        newest=Attempt.objects.latest("pk").pk,
        looked_at=UtcNow() - timedelta(hours=1),
        pk=CountMark.ONLY,
    )

    at_once(*[count] * 3, *[prune] * 2)

    CountMark.objects.update(looked_at=F("looked_at") - timedelta(hours=1))
    transitions.count_attempts(limit=COUNT, database="default")
    totals = AttemptCount.objects.values_list("kind").annotate(total=Sum("count"))
    assert dict(totals) == Counter({"sent": len(attempts) * 2 // 3, "permanent": len(attempts) // 3})
