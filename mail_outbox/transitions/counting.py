"""From attempts to counts that never go backwards: each attempt is counted once, at the latest when it is pruned."""

from collections.abc import Sequence
from datetime import timedelta

from django.db import connections, transaction
from django.db.models import Case, Count, Exists, F, IntegerField, Max, OuterRef, QuerySet, Sum, Value, When

from mail_outbox.models import Attempt, AttemptCount, CountMark, UtcNow

BOUNDS = (50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 180_000)
"""Upper bounds of the buckets in milliseconds: from a local server that answers at once to the longest deadline."""
LONGER = 2**31 - 1
UNKNOWN = 0
"""The bucket of attempts whose end nobody saw."""
VISIBLE_AFTER = timedelta(seconds=30)
"""After how long every attempt with a lower number than one that was seen is committed: it is the last thing a settle writes."""
COUNT_BATCH = 50_000


def all_counted(*, database: str) -> QuerySet[CountMark]:
    """Return the mark where there is no attempt that has not been counted."""
    newer = Attempt.objects.using(database).filter(pk__gt=OuterRef("newest"))
    marks = CountMark.objects.using(database).filter(pk=CountMark.ONLY, counted_to=F("newest"))
    return marks.filter(~Exists(newer))


def count_attempts(*, limit: int = COUNT_BATCH, database: str) -> int:
    """Count up to so many attempts that have not been counted, and return how far the count went; safe side by side."""
    with transaction.atomic(using=database):
        mark = _take(database, skip_locked=connections[database].features.has_select_for_update_skip_locked)
        if mark is None:
            if CountMark.objects.using(database).exists():
                return 0  # somebody else is counting
            mark = _create_mark(database)
        end = mark.counted_to
        if mark.looked_at is not None and vars(mark)["now"] - mark.looked_at >= VISIBLE_AFTER:
            end = min(mark.newest, mark.counted_to + limit)
        attempts = Attempt.objects.using(database)
        if end > mark.counted_to:
            _add(attempts.filter(pk__gt=mark.counted_to, pk__lte=end), database)
        changes: dict[str, object] = {"counted_to": end}
        if end >= mark.newest:
            newest = attempts.aggregate(newest=Max("pk"))["newest"] or 0
            changes |= {"newest": max(newest, end), "looked_at": UtcNow()}
        CountMark.objects.using(database).filter(pk=mark.pk).update(**changes)
        return end - mark.counted_to


def count_before_pruning(keys: Sequence[int], mark: CountMark, *, database: str) -> None:
    """Count those attempts of the entries that have not been counted; the caller removes them in the same transaction."""
    _add(Attempt.objects.using(database).filter(entry_id__in=keys, pk__gt=mark.counted_to), database)


def take_mark(database: str) -> CountMark:
    """Lock the mark until the transaction ends, and return it; to be taken before any entry, so that nobody deadlocks."""
    return _take(database, skip_locked=False) or _create_mark(database)


def _take(database: str, *, skip_locked: bool) -> CountMark | None:
    marks = CountMark.objects.using(database).filter(pk=CountMark.ONLY)
    return marks.select_for_update(skip_locked=skip_locked).annotate(now=UtcNow()).first()


def _create_mark(database: str) -> CountMark:
    marks = CountMark.objects.using(database)
    marks.bulk_create([CountMark(pk=CountMark.ONLY)], ignore_conflicts=True)
    return marks.select_for_update().annotate(now=UtcNow()).get(pk=CountMark.ONLY)


def _add(attempts: QuerySet[Attempt], database: str) -> None:
    whens = [When(duration__lte=timedelta(milliseconds=bound), then=Value(bound)) for bound in BOUNDS]
    unknown = When(duration__isnull=True, then=Value(UNKNOWN))
    within = Case(unknown, *whens, default=Value(LONGER), output_field=IntegerField())
    groups = attempts.order_by().values_list("using", "kind", within).annotate(Count("pk"), Sum("duration"))
    counts = AttemptCount.objects.using(database)
    for using, kind, within_ms, count, took in groups:
        seconds = took.total_seconds() if took is not None else 0.0
        added = {"count": F("count") + count, "seconds": F("seconds") + seconds}
        if not counts.filter(using=using, kind=kind, within_ms=within_ms).update(**added):
            counts.create(using=using, kind=kind, within_ms=within_ms, count=count, seconds=seconds)
