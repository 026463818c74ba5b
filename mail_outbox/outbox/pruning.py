"""Old mail out of the outbox: all at once for who asks, and by and by for the sweep."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial, reduce
from typing import Any, TypeVar
from uuid import uuid4

from django.db import connections
from django.db.models import QuerySet

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.core.errors import InvalidOption
from mail_outbox.core.pace import LONGEST, Pace
from mail_outbox.core.retention import Retention
from mail_outbox.core.states import FINISHED
from mail_outbox.drain.instances import find_stranger, owned
from mail_outbox.models import Attachment, Attempt, DeliveryEvent, OutboxEntry, StoredFile, UtcNow
from mail_outbox.models.asking import ask_all
from mail_outbox.outbox.delivering import refuse_in_transaction, refuse_strangers
from mail_outbox.outbox.storing import delete_files, store_attachments
from mail_outbox.outbox.twins import has_twin
from mail_outbox.transitions import BATCH, COUNT_BATCH, DATABASE_AWAY, PruneResult
from mail_outbox.transitions.pruning import FactName

logger = logging.getLogger("mail_outbox.worker")

T = TypeVar("T")
Job = Callable[..., PruneResult]


@has_twin
def prune(
    *,
    sent: timedelta | None = None,
    failed: timedelta | None = None,
    content: timedelta | None = None,
    attempts: timedelta | None = None,
    events: timedelta | None = None,
    limit: int | None = None,
    database: str | None = None,
    dry_run: bool = False,
) -> PruneResult:
    """Remove what finished so long ago, and return the counts; what has not finished is never touched.

    `sent` and `failed` (failed, held, expired, cancelled) are ages of entries, `content` is that of the content of entries
    that were sent, `attempts` and `events` those of facts whose entry stays; where they are None, RETENTION decides. Attachments go with the last entry that needs them. At most
    `limit` entries are removed or lose their content; `dry_run` only counts, limit aside. Works in small transactions of
    its own: raises InTransaction inside `atomic()`, OutboxPaused in a copy of
    the database, whose files may be the original's, and InvalidOption.
    """
    retention = _retention(sent=sent, failed=failed, content=content, attempts=attempts, events=events)
    if limit is not None and limit < 1:
        raise InvalidOption(f"limit must be at least 1, not {limit!r}.")
    conf = settings.get_conf()
    databases = conf.databases if database is None else (database,)
    if dry_run:
        return _sum(transitions.count_prunable(retention, database=alias) for alias in databases)
    return _sum(_prune(retention, limit=limit, databases=databases))


def prune_in_steps(*, batch_size: int = BATCH) -> Iterator[PruneResult]:
    """Remove what RETENTION says, at most so many entries at a time, and yield the counts of each step."""
    conf = settings.get_conf()
    return _prune(conf.retention_policy, batch_size=batch_size, databases=conf.databases)


def keep_house(database: str, *, seconds: float) -> PruneResult:
    """Do for so many seconds what has to be done now and then, and return what was removed; never raises.

    Counts new attempts for the metrics, removes what RETENTION says, a batch of everything in turn, then the files that nobody needs any more, and moves large
    attachments into their storage.
    """
    started = time.monotonic()
    needed = _quietly(partial(_look_around, database), database)
    if needed is None:
        return PruneResult()
    jobs = deque(needed.jobs)
    result = PruneResult()
    count = partial(transitions.count_attempts, database=database)
    while needed.count and _quietly(count, database) == COUNT_BATCH and time.monotonic() < started + seconds / 4:
        pass
    # What goes over the network comes last, and has the other half of the time at least.
    while jobs and time.monotonic() < started + seconds / 2:
        job = jobs.popleft()
        step = _quietly(partial(job, limit=BATCH), database) or PruneResult()
        result = result.plus(step)
        if step.entries or step.contents or step.attempts or step.events:
            jobs.append(job)
    files: int | None = 0
    if needed.files or result.attachments:
        files = _quietly(partial(delete_files, database=database, until=started + seconds), database)
    _quietly(partial(store_attachments, database=database, until=started + seconds), database)
    return result.plus(PruneResult(files=files or 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Needed:
    """What there is to do in the house: jobs, attempts to count, files to delete."""

    jobs: list[Job]
    count: bool
    files: bool


def _look_around(database: str) -> _Needed | None:
    """Return what there is to do, by one statement where that is nothing, or None in a copy of the database."""
    unused = Attachment.objects.using(database).all(), _some_unused(database)
    jobs = [unused, *_jobs(settings.get_conf().retention_policy, database)]
    there = ask_all(
        {
            "ours": owned(database=database),
            "all counted": transitions.all_counted(database=database),
            "files": StoredFile.objects.using(database).filter(due_at__lte=UtcNow()),
            **{number: rows for number, (rows, _) in enumerate(jobs)},
        },
        database=database,
    )
    if "ours" not in there and find_stranger(database=database) is not None:
        return None
    return _Needed(
        jobs=[job for number, (_, job) in enumerate(jobs) if number in there],
        count="all counted" not in there,
        files="files" in there,
    )


def _quietly(act: Callable[[], T], database: str) -> T | None:
    """Do it, or log why it cannot be done: the rest of the house is kept all the same."""
    try:
        return act()
    except DATABASE_AWAY as error:
        logger.warning("database trouble", extra={"error": type(error).__name__, "database": database})
    except Exception:
        # A project's own table may protect an entry, for example.
        logger.exception("housekeeping failed", extra={"database": database})
    return None


def _sum(results: Iterable[PruneResult]) -> PruneResult:
    return reduce(PruneResult.plus, results, PruneResult())


def _prune(
    retention: Retention, *, limit: int | None = None, batch_size: int = BATCH, databases: Sequence[str]
) -> Iterator[PruneResult]:
    """Remove it, and yield the counts of each step; at most `limit` entries are removed or lose their content."""
    refuse_in_transaction("prune", databases=databases)
    refuse_strangers(databases=databases)
    left = math.inf if limit is None else limit
    most = min(BATCH, batch_size)
    for database in databases:
        for _, job in _jobs(retention, database):
            while left and (step := job(limit=int(min(most, left)))):
                left -= step.entries + step.contents
                yield step
        after: str | None = ""
        while left and after is not None:
            step, after = transitions.prune_unused_attachments(after=after, database=database)
            yield step
        yield PruneResult(files=delete_files(database=database))


def _paced(job: Job, database: str) -> Job:
    """Return the job in batches that hold their locks for a short time only, whatever belongs to the entries."""
    pace = Pace(BATCH)
    is_alone = not connections[database].features.has_select_for_update

    def step(*, limit: int) -> PruneResult:
        began = time.monotonic()
        result = job(limit=min(pace.size, limit))
        if result:
            took = time.monotonic() - began
            pace.note(took)
            if is_alone:
                # SQLite has one writer, and no queue: whoever never rests keeps all others out, the senders' settles too.
                time.sleep(min(took, LONGEST))
        return result

    return step


def _jobs(retention: Retention, database: str) -> Iterator[tuple[QuerySet[Any], Job]]:
    """Yield what there is to do, each for a batch at a time, and the rows without which there is nothing to do."""
    entries = OutboxEntry.objects.using(database)
    for state in sorted(FINISHED):
        age = retention.of(state)
        if age is not None:
            job = partial(transitions.prune_entries, state, age, database=database)
            yield entries.finished_for(age, state=state), _paced(job, database)
    if retention.content is not None:
        job = partial(transitions.prune_contents, retention.content, database=database)
        yield entries.sent_for(retention.content), _paced(job, database)
    if retention.attempts is not None:
        yield Attempt.objects.using(database).all(), _old_facts("attempts", retention.attempts, database)
    if retention.events is not None:
        yield DeliveryEvent.objects.using(database).all(), _old_facts("events", retention.events, database)


def _old_facts(name: FactName, age: timedelta, database: str) -> Job:
    """Return a walk over the attempts or events: each step goes on until it has removed something, or all have been seen."""
    after: int | None = 0

    def step(*, limit: int) -> PruneResult:
        nonlocal after
        while after is not None:
            result, after = transitions.prune_facts(name, age, after=after, limit=limit, database=database)
            if result:
                return result
        return PruneResult()

    return step


def _some_unused(database: str) -> Job:
    """Return a look at a few attachments: they are evenly spread over the digests, so from random ones on all are seen."""

    def look(*, limit: int) -> PruneResult:
        result, _ = transitions.prune_unused_attachments(after=uuid4().hex, limit=limit, database=database)
        return result

    return look


def _retention(**ages: timedelta | None) -> Retention:
    for name, age in ages.items():
        if age is not None and (not isinstance(age, timedelta) or age < timedelta(0)):
            raise InvalidOption(f"{name} must be a timedelta that is not negative, not {age!r}.")
    given = {name: age for name, age in ages.items() if age is not None}
    return replace(settings.get_conf().retention_policy, **given)
