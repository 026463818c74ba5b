"""How the outbox has been doing for a day: counts, throughput, latency and causes of failure, read by index only."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from mail_outbox import conf as settings
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry
from mail_outbox.outbox.flow import Health, health
from mail_outbox.outbox.reading import count_each, read_each

MANY = 10_000
"""Further than this nobody counts: `MANY` + 1 means "more than that"."""
MOST_IN_AN_HOUR = 100_000
NEWEST = 1_000
"""How many of the newest sent and failed entries are looked at for latency, shares and causes."""
HOURS = 24
HOUR, DAY = timedelta(hours=1), timedelta(hours=HOURS)
COLUMNS = (
    "sensitive",
    "state",
    "using",
    "outcome_kind",
    "outcome_code",
    "outcome_text",
    "first_due_at",
    "finished_at",
    "state_reason",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """What was sent and what failed in the hour that begins at `start`."""

    start: datetime
    sent: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long `count` mails took from when they were due, for most when they were enqueued, until they were sent."""

    count: int
    p50: timedelta
    p95: timedelta
    p99: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Failures with the same mailer, outcome and code: how many of the newest, an example, and when it last happened.

    What a provider said about sensitive mail is no example: it may quote it.
    """

    using: str
    kind: str
    code: str
    reason: str
    text: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MailerLoad:
    """What waits for one mailer, and how many of its newest mails were sent and failed in the last 24 hours."""

    alias: str
    queued: int
    sent: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """How the outbox is doing and has been doing for 24 hours; counts by state end at `MANY` + 1."""

    health: Health
    states: Mapping[str, int]
    hours: tuple[Hour, ...]
    latency: Latency | None
    causes: tuple[Cause, ...]
    mailers: tuple[MailerLoad, ...]


def overview(*, database: str | None = None) -> Overview:
    """Look at the table of entries three times, however large it is, and return how the outbox is doing."""
    database = database or settings.get_conf().databases[0]
    flow = health(database=database)
    aliases = [mailer.alias for mailer in flow.mailers]
    entries = OutboxEntry.objects.using(database)
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + HOUR
    starts = [end - HOUR * back for back in range(HOURS, 0, -1)]
    questions = [(in_state(entries, state), MANY) for state in State]
    questions += [(entries.queued(alias).order_by("due_at", "pk"), MANY) for alias in aliases]
    for state in (State.SENT, State.FAILED):
        ended = in_state(entries, state)
        questions += [(ended.filter(finished_at__gte=at, finished_at__lt=at + HOUR), MOST_IN_AN_HOUR) for at in starts]
    answers = iter(count_each(questions))
    states = {state.value: next(answers) for state in State}
    queued = {alias: next(answers) for alias in aliases}
    sent, failed = ([next(answers) for _ in starts] for _ in range(2))
    newest = list(
        read_each(
            [
                entries.ended(state).only(*COLUMNS).order_by("-finished_at", "-pk")[:NEWEST]
                for state in (State.SENT, State.FAILED)
            ]
        )
    )
    recent = sorted((row for row in newest if _ended_at(row) > end - DAY), key=_ended_at, reverse=True)[:NEWEST]
    return Overview(
        health=flow,
        states=states,
        hours=tuple(Hour(start=at, sent=s, failed=f) for at, s, f in zip(starts, sent, failed, strict=True)),
        latency=_latency(row for row in recent if row.state == State.SENT),
        causes=tuple(_causes(row for row in newest if row.state == State.FAILED)),
        mailers=tuple(_loads(aliases, queued, recent)),
    )


def in_state(entries: Any, state: State) -> QuerySet[OutboxEntry]:
    """Return the entries in the state, in the order of the index that has them."""
    found: QuerySet[OutboxEntry]
    match state:
        case State.QUEUED:
            found = entries.filter(state=state).order_by("using", "due_at", "pk")
        case State.SCHEDULED:
            found = entries.filter(state=state).order_by("due_at", "pk")
        case State.SENDING:
            found = entries.filter(state=state).order_by("lease_expires_at", "pk")
        case _:
            found = entries.ended(state).order_by("finished_at", "pk")
    return found


def _ended_at(row: OutboxEntry) -> datetime:
    return row.finished_at or datetime.min.replace(tzinfo=UTC)


def _latency(rows: Iterable[OutboxEntry]) -> Latency | None:
    took = sorted(max(_ended_at(row) - row.first_due_at, timedelta(0)) for row in rows)
    if not took:
        return None
    p50, p95, p99 = (took[min(len(took) * share // 100, len(took) - 1)] for share in (50, 95, 99))
    return Latency(count=len(took), p50=p50, p95=p95, p99=p99)


def _causes(rows: Iterable[OutboxEntry]) -> list[Cause]:
    groups: dict[tuple[str, str, str], list[OutboxEntry]] = defaultdict(list)
    for row in rows:
        groups[row.using, row.outcome_kind, row.outcome_code].append(row)
    causes = []
    for (using, kind, code), members in groups.items():
        last = max(members, key=_ended_at)
        causes.append(
            Cause(
                using=using,
                kind=kind,
                code=code,
                reason=last.state_reason,
                text=next((row.outcome_text for row in members if not row.sensitive), ""),
                count=len(members),
                last_at=_ended_at(last),
            )
        )
    return sorted(causes, key=lambda cause: (-cause.count, cause.using, cause.code))


def _loads(aliases: Sequence[str], queued: Mapping[str, int], recent: Sequence[OutboxEntry]) -> list[MailerLoad]:
    ended = Counter((row.using, row.state) for row in recent)
    return [
        MailerLoad(
            alias=alias,
            queued=queued[alias],
            sent=ended[alias, State.SENT.value],
            failed=ended[alias, State.FAILED.value],
        )
        for alias in aliases
    ]
