"""How the outbox is doing, and the mail about one object."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import Count

from mail_outbox import conf as settings
from mail_outbox.core.errors import InvalidOption
from mail_outbox.core.states import State
from mail_outbox.drain import instances
from mail_outbox.models import ALL_MAILERS, MailerState, OutboxEntry, UtcNow, Worker, label_of
from mail_outbox.models.entry import EntryQuerySet
from mail_outbox.outbox.twins import has_twin

NOT_OURS = "the database belongs to another deployment"
ALIVE_WITHIN = timedelta(minutes=2)
"""A worker that was seen this long ago counts as alive: the sweep lets each look at least every minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailerStats:
    """How one mailer is doing: entries by state, why it rests where it does, and how fast it may go.

    `rate` is what the settings say; `allowance` is the part of its speed it may use, less than 1 after throttling.
    """

    alias: str
    states: Mapping[str, int]
    is_known: bool
    is_paused: bool
    pause_reason: str
    broken_until: datetime | None
    broken_reason: str
    rate: str | None = None
    allowance: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How the outbox is doing: entries by state, the age of the oldest that is due, live workers, and each mailer.

    `blocked` says why nothing at all is sent: the database belongs to another deployment. Empty where that is not so.
    """

    states: Mapping[str, int]
    oldest_due: timedelta | None
    workers: int
    mailers: tuple[MailerStats, ...]
    blocked: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON; ages in seconds, moments in ISO 8601."""
        values = asdict(self)
        values["oldest_due_seconds"] = None if self.oldest_due is None else self.oldest_due.total_seconds()
        del values["oldest_due"]
        for mailer in values["mailers"]:
            moment = mailer["broken_until"]
            mailer["broken_until"] = None if moment is None else moment.isoformat()
        values["mailers"] = list(values["mailers"])
        return values


@has_twin
def stats(*, database: str | None = None) -> Stats:
    """Count the entries by state and mailer, and return how the outbox is doing."""
    database = database or settings.get_conf().databases[0]
    entries = OutboxEntry.objects.using(database)
    by_mailer: dict[str, dict[str, int]] = {alias: {} for alias in settings.real_mailers()}
    for alias, state, count in entries.values_list("using", "state").annotate(count=Count("pk")).order_by():
        by_mailer.setdefault(alias, {})[state] = count
    totals = {state.value: sum(counts.get(state.value, 0) for counts in by_mailer.values()) for state in State}
    alive = Worker.objects.using(database).filter(last_seen_at__gte=UtcNow() - ALIVE_WITHIN)
    blocked = str(instances.find_stranger(database=database) or "")
    rows = {row.alias: row for row in MailerState.objects.using(database).annotate(now=UtcNow())}
    return Stats(
        states=totals,
        oldest_due=_oldest_due(by_mailer, database),
        workers=alive.count(),
        mailers=tuple(_mailer_stats(alias, counts, rows, blocked) for alias, counts in sorted(by_mailer.items())),
        blocked=blocked,
    )


def for_object(instance: models.Model) -> EntryQuerySet:
    """Return the entries that were enqueued with `related=instance`, as a queryset, newest first."""
    if not isinstance(instance, models.Model):
        raise InvalidOption(f"for_object takes a model instance, not {type(instance).__name__}.")
    if instance.pk is None:
        raise InvalidOption(f"{type(instance).__name__} is not saved yet, so no mail can be about it.")
    database = settings.get_conf().databases[0]
    return OutboxEntry.objects.using(database).about(label_of(instance)).order_by("-pk")


def _oldest_due(mailers: Iterable[str], database: str) -> timedelta | None:
    entries = OutboxEntry.objects.using(database).annotate(now=UtcNow())
    # One look per mailer, each at the end of an index, however long the queues are.
    candidates = [entries.queued(alias).order_by("due_at", "pk") for alias in mailers]
    candidates.append(entries.due_to_promote().order_by("due_at", "pk"))
    firsts = [candidate.values_list("due_at", "now").first() for candidate in candidates]
    ages = [now - due_at for due_at, now in filter(None, firsts)]
    return max([timedelta(0), *ages]) if ages else None


def _mailer_stats(alias: str, counts: Mapping[str, int], rows: Mapping[str, Any], blocked: str) -> MailerStats:
    row, everyone = rows.get(alias), rows.get(ALL_MAILERS)
    paused = next((state for state in (everyone, row) if state is not None and _is_paused(state)), None)
    is_broken = row is not None and row.strikes > 0
    return MailerStats(
        alias=alias,
        states=dict(counts),
        is_known=alias in settings.real_mailers(),
        is_paused=paused is not None or settings.get_conf().paused or bool(blocked),
        pause_reason=NOT_OURS if blocked else (paused.pause_reason if paused else ""),
        broken_until=row.broken_until if row is not None and is_broken else None,
        broken_reason=row.broken_reason if row is not None and is_broken else "",
        rate=settings.get_conf().options_of(alias).rate,
        allowance=1.0 if row is None else row.allowance_at(row.now),
    )


def _is_paused(state: Any) -> bool:
    return state.is_paused and (state.paused_until is None or state.paused_until > state.now)
