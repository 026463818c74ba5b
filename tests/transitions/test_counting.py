"""Counts of attempts: each is counted once, whatever is pruned and whoever counts beside."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models import F, Sum

from mail_outbox import outbox, transitions
from mail_outbox.models import Attempt, AttemptCount, CountMark, OutboxEntry, UtcNow
from mail_outbox.outbox.pruning import keep_house
from mail_outbox.transitions.counting import BOUNDS, LONGER, UNKNOWN
from tests.support import a_message

pytestmark = pytest.mark.django_db


def attempt(seconds: float | None = 0.2, *, kind: str = "sent", using: str = "default") -> Attempt:
    entry = outbox.enqueue(a_message())
    OutboxEntry.objects.filter(pk=entry.pk).update(state="sent", finished_at=UtcNow() - timedelta(days=1))
    return Attempt.objects.create(
        entry=entry,
        number=1,
        claim_id=uuid4(),
        using=using,
        started_at=UtcNow(),
        duration=None if seconds is None else timedelta(seconds=seconds),
        kind=kind,
    )


def count(limit: int = 10**9) -> int:
    return transitions.count_attempts(limit=limit, database="default")


def let_time_pass() -> None:
    CountMark.objects.update(looked_at=F("looked_at") - timedelta(minutes=1))


def counted() -> int:
    return AttemptCount.objects.aggregate(total=Sum("count"))["total"] or 0


def test_an_attempt_is_counted_once_and_only_when_all_before_it_must_be_committed():
    attempt()
    assert count() == 0  # looks which is the newest
    assert count() == 0  # too early

    let_time_pass()
    assert count() > 0  # keys that others have used up count as way
    assert counted() == 1
    let_time_pass()
    assert count() == 0
    assert counted() == 1


def test_an_attempt_that_commits_late_is_counted_with_the_next():
    late = attempt()
    attempt()
    key = late.pk
    late.delete()  # as good as not committed yet
    count()
    late.pk = key
    late.save(force_insert=True)
    let_time_pass()
    count()

    assert counted() == 2


def test_a_long_way_is_counted_in_steps():
    first = attempt().pk
    for _ in range(4):
        attempt()
    count()
    CountMark.objects.update(counted_to=first - 1)
    let_time_pass()

    steps = [count(limit=2), count(limit=2), count(limit=2)]

    assert steps == [2, 2, 1]
    assert counted() == 5


def test_what_is_pruned_before_it_was_counted_is_counted_on_its_way_out():
    attempt()
    outbox.prune(sent=timedelta(0))
    assert not Attempt.objects.exists()
    assert counted() == 1

    attempt()
    count()
    let_time_pass()
    count()
    outbox.prune(sent=timedelta(0))
    let_time_pass()
    count()
    assert counted() == 2


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, 50), (0.05, 50), (0.051, 100), (1, 1000), (180, 180_000), (181, LONGER), (None, UNKNOWN)],
)
def test_each_duration_has_its_bucket(seconds, bucket):
    attempt(seconds)
    outbox.prune(sent=timedelta(0))

    [row] = AttemptCount.objects.all()
    assert (row.using, row.kind, row.within_ms, row.count) == ("default", "sent", bucket, 1)
    assert row.seconds == pytest.approx(seconds or 0)


def test_counts_add_up_by_mailer_and_outcome():
    for using, kind in [("default", "sent"), ("default", "sent"), ("bulk", "sent"), ("default", "permanent")]:
        attempt(0.3, using=using, kind=kind)
        outbox.prune(sent=timedelta(0))

    found = set(AttemptCount.objects.values_list("using", "kind", "within_ms", "count"))
    assert found == {("default", "sent", 500, 2), ("bulk", "sent", 500, 1), ("default", "permanent", 500, 1)}


def test_the_sweep_counts():
    attempt()
    keep_house("default", seconds=5)
    let_time_pass()
    keep_house("default", seconds=5)

    assert counted() == 1


def test_the_bounds_ascend():
    assert list(BOUNDS) == sorted(set(BOUNDS))
    assert UNKNOWN < BOUNDS[0] <= BOUNDS[-1] < LONGER
