"""The outbox in numbers, for monitors that ask every few seconds."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from mail_outbox import conf as settings
from mail_outbox.core.states import State
from mail_outbox.models import AttemptCount, OutboxEntry, UtcNow, Worker
from mail_outbox.outbox.flow import Health, Problem, health
from mail_outbox.outbox.overview import in_state
from mail_outbox.outbox.reading import count_by_mailer, count_each
from mail_outbox.transitions import BOUNDS

MOST = 10_000
"""No state is counted further than this: nobody who has so many asks how many exactly."""
MOST_QUEUED = 100_000
"""How far is counted what waits for one mailer: the length of a queue is what one watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long the attempts of one mailer took: how many within each bound, those within shorter ones included."""

    within: tuple[tuple[timedelta, int], ...]
    count: int
    total: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One database's outbox in numbers.

    `entries` by state and mailer, at most `MOST` a state, and of what is queued `MOST_QUEUED` a mailer; `attempts` by mailer and outcome
    and `durations` by mailer since the outbox was installed, a minute or two late.
    """

    health: Health
    entries: Mapping[tuple[str, str], int]
    oldest_due: Mapping[str, timedelta]
    attempts: Mapping[tuple[str, str], int]
    durations: Mapping[str, Durations]
    last_seen: timedelta | None


def all_problems() -> list[Problem]:
    """Judge every database of the outbox, and return all that keeps mail from flowing, each reason once."""
    found = [health(database=alias) for alias in settings.get_conf().databases]
    return list(dict.fromkeys(problem for one in found for problem in one.problems))


def measure(*, database: str | None = None) -> Measurement:
    """Look at the table of entries four times, however large it is, and return the outbox in numbers."""
    database = database or settings.get_conf().databases[0]
    found = health(database=database)
    rows = list(AttemptCount.objects.using(database).order_by("using", "kind", "within_ms"))
    attempts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        attempts[row.using, row.kind] += row.count
    seen = Worker.objects.using(database).order_by("-last_seen_at").annotate(now=UtcNow())
    last = seen.values_list("now", "last_seen_at").first()
    return Measurement(
        health=found,
        entries=_count_entries([mailer.alias for mailer in found.mailers], database),
        oldest_due=_oldest_due(found, database),
        attempts=attempts,
        durations={alias: _durations(rows, alias) for alias in sorted({row.using for row in rows})},
        last_seen=None if last is None else max(last[0] - last[1], timedelta(0)),
    )


def _count_entries(aliases: list[str], database: str) -> dict[tuple[str, str], int]:
    entries = OutboxEntry.objects.using(database)
    others = [state for state in State if state is not State.QUEUED]
    by_mailer = count_by_mailer([in_state(entries, state) for state in others], most=MOST)
    counts = {(state.value, alias): 0 for state in State for alias in aliases}
    for state, found in zip(others, by_mailer, strict=True):
        counts |= {(state.value, alias): count for alias, count in found.items()}
    if aliases:
        queued = [(entries.queued(alias).order_by("due_at", "pk"), MOST_QUEUED - 1) for alias in aliases]
        answers = zip(aliases, count_each(queued), strict=True)
        counts |= {(State.QUEUED.value, alias): count for alias, count in answers}
    return counts


def _oldest_due(found: Health, database: str) -> dict[str, timedelta]:
    """Return how long the oldest mail of each mailer has been due, promoted or not; no time at all where none is."""
    ages = {mailer.alias: mailer.oldest_due or timedelta(0) for mailer in found.mailers}
    scheduled = OutboxEntry.objects.using(database).due_to_promote().order_by("due_at", "pk").annotate(now=UtcNow())
    for alias, due_at, now in scheduled.values_list("using", "due_at", "now")[:1]:
        ages[alias] = max(now - due_at, ages.get(alias, timedelta(0)))
    return ages


def _durations(rows: Iterable[AttemptCount], alias: str) -> Durations:
    known = [row for row in rows if row.using == alias and row.within_ms]
    return Durations(
        within=tuple(
            (timedelta(milliseconds=bound), sum(row.count for row in known if row.within_ms <= bound))
            for bound in BOUNDS
        ),
        count=sum(row.count for row in known),
        total=timedelta(seconds=sum(row.seconds for row in known)),
    )
