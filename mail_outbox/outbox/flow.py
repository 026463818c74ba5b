"""Is mail flowing, and if not, why: the judgement and its words, for the admin, commands and monitors alike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from mail_outbox import conf as settings
from mail_outbox.core.durations import humanise
from mail_outbox.core.states import State
from mail_outbox.drain.instances import Stranger, find_stranger
from mail_outbox.models import ALL_MAILERS, MailerState, OutboxEntry, UtcNow, Worker
from mail_outbox.outbox.reading import as_moment, read_each
from mail_outbox.outbox.twins import has_twin
from mail_outbox.outbox.watching import ALIVE_WITHIN

OVERDUE_AFTER = timedelta(minutes=5)
"""How long mail may be due before something must be wrong."""
MISSED_AFTER = timedelta(minutes=1)
"""How long mail may be due before a missing worker is to blame: cron starts one every minute, and it does not stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One reason why mail does not flow, in a word for programs and in a sentence for people."""

    code: str
    text: str
    mailer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailerHealth:
    """Whether one mailer may send, why not, and since when its oldest mail is due."""

    alias: str
    is_known: bool
    is_paused: bool
    paused_until: datetime | None
    pause_reason: str
    is_broken: bool
    broken_until: datetime | None
    broken_reason: str
    oldest_due: timedelta | None

    @property
    def is_resting(self) -> bool:
        """Tell whether its mail waits for a reason that is known."""
        return self.is_paused or self.is_broken or not self.is_known


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether mail flows; `problems` is empty where it does, the gravest comes first."""

    problems: tuple[Problem, ...]
    oldest_due: timedelta | None
    workers: int
    last_seen_at: datetime | None
    mailers: tuple[MailerHealth, ...]
    is_paused: bool

    @property
    def is_flowing(self) -> bool:
        """Tell whether nothing keeps mail from flowing."""
        return not self.problems


@has_twin
def health(*, overdue_after: timedelta = OVERDUE_AFTER, database: str | None = None) -> Health:
    """Judge whether mail flows, in four small queries however large the outbox is, and return why where it does not."""
    conf = settings.get_conf()
    database = database or conf.databases[0]
    states = {state.alias: state for state in MailerState.objects.using(database).annotate(now=UtcNow())}
    ages, scheduled = _ages(database)
    known = settings.real_mailers()
    aliases = sorted({*known, *ages, *(states.keys() - {ALL_MAILERS})})
    mailers = tuple(_mailer(alias, alias in known, states.get(alias), ages.get(alias)) for alias in aliases)
    seen = Worker.objects.using(database).order_by("-last_seen_at").annotate(now=UtcNow())
    rows = list(seen.values_list("last_seen_at", "now")[:100])
    every = states.get(ALL_MAILERS)
    stranger = find_stranger(database=database)
    is_paused = conf.paused or stranger is not None or (every is not None and _is_paused(every))
    known_ages = [age for age in (*ages.values(), scheduled) if age is not None]
    found = Health(
        problems=(),
        oldest_due=max([timedelta(0), *known_ages]) if known_ages else None,
        workers=sum(1 for last_seen_at, now in rows if now - last_seen_at <= ALIVE_WITHIN),
        last_seen_at=rows[0][0] if rows else None,
        mailers=mailers,
        is_paused=is_paused,
    )
    problems = _problems(found, stranger, every, scheduled, overdue_after)
    return replace(found, problems=tuple(problems))


def _problems(
    found: Health, stranger: Stranger | None, pause: Any, scheduled: timedelta | None, overdue_after: timedelta
) -> Iterator[Problem]:
    if stranger is not None:
        yield Problem(code="not_adopted", text=f"Nothing is sent: {stranger}.")
    elif found.is_paused and (pause is None or not _is_paused(pause)):
        yield Problem(code="paused", text="Nothing is sent while MAIL_OUTBOX['PAUSED'] is set.")
    elif found.is_paused:
        yield Problem(
            code="paused", text=f"All mailers are paused{_until(pause.paused_until)}{_because(pause.pause_reason)}."
        )
    elif found.workers == 0 and (found.oldest_due or timedelta(0)) > MISSED_AFTER:
        seen = f" The last one was seen on {found.last_seen_at:%Y-%m-%d at %H:%M} UTC." if found.last_seen_at else ""
        yield Problem(
            code="no_worker",
            text=f"Mail is due, and no worker is there to send it. Start one: manage.py qcluster.{seen}",
        )
    for mailer in found.mailers:
        yield from _mailer_problems(mailer)
    ages = [scheduled, *(mailer.oldest_due for mailer in found.mailers if not mailer.is_resting)]
    oldest = max((age for age in ages if age is not None), default=timedelta(0))
    if oldest > overdue_after and not found.is_paused:
        yield Problem(code="overdue", text=f"Mail has been due for {humanise(oldest)} and has not been sent.")


def _mailer_problems(mailer: MailerHealth) -> Iterator[Problem]:
    name = f"Mailer '{mailer.alias}'"
    if not mailer.is_known:
        if mailer.oldest_due is not None:
            text = (
                f"Mail waits for mailer '{mailer.alias}', which is not configured. Configure it, or change the mailer."
            )
            yield Problem(code="unknown_mailer", text=text, mailer=mailer.alias)
    elif mailer.is_paused:
        text = f"{name} is paused{_until(mailer.paused_until)}{_because(mailer.pause_reason)}."
        yield Problem(code="mailer_paused", text=text, mailer=mailer.alias)
    elif mailer.is_broken:
        text = f"{name} is in trouble and rests{_until(mailer.broken_until)}{_because(mailer.broken_reason)}."
        yield Problem(code="mailer_broken", text=text, mailer=mailer.alias)


def _until(moment: datetime | None) -> str:
    return "" if moment is None else f" until {moment:%Y-%m-%d %H:%M} UTC"


def _because(reason: str) -> str:
    return f": {reason.rstrip('.')}" if reason else ""


def _mailer(alias: str, is_known: bool, state: Any, age: timedelta | None) -> MailerHealth:  # noqa: FBT001
    is_paused = state is not None and _is_paused(state)
    is_broken = state is not None and state.strikes > 0
    return MailerHealth(
        alias=alias,
        is_known=is_known,
        is_paused=is_paused,
        paused_until=state.paused_until if is_paused else None,
        pause_reason=state.pause_reason if is_paused else "",
        is_broken=is_broken,
        broken_until=state.broken_until if is_broken else None,
        broken_reason=state.broken_reason if is_broken else "",
        oldest_due=age,
    )


def _is_paused(state: Any) -> bool:
    return bool(state.is_paused and (state.paused_until is None or state.paused_until > state.now))


def _ages(database: str) -> tuple[Mapping[str, timedelta], timedelta | None]:
    """Return how long the oldest mail of each mailer has been due, and that of the oldest nobody has promoted."""
    entries = OutboxEntry.objects.using(database)
    looks: list[QuerySet[OutboxEntry]] = [
        entries.queued(alias).order_by("due_at", "pk") for alias in settings.real_mailers()
    ]
    looks += _between(sorted(settings.real_mailers()), entries.filter(state=State.QUEUED))
    looks.append(entries.due_to_promote().order_by("due_at", "pk"))
    rows = read_each([look.only("state", "using", "due_at").annotate(now=UtcNow())[:1] for look in looks])
    ages: dict[str, timedelta] = {}
    scheduled = None
    for row in rows:
        age = as_moment(vars(row)["now"]) - row.due_at
        if row.state == State.SCHEDULED:
            scheduled = age
        else:
            ages[row.using] = max(age, ages.get(row.using, age))
    return ages, scheduled


def _between(known: Sequence[str], queued: QuerySet[OutboxEntry]) -> list[QuerySet[OutboxEntry]]:
    """Look for mail of other mailers in the gaps between the known ones, where the index need not be read through."""
    gaps = [
        {**({"using__gt": low} if low else {}), **({"using__lt": high} if high else {})}
        for low, high in zip([None, *known], [*known, None], strict=True)
    ]
    return [queued.filter(**gap).exclude(using__in=known).order_by("using", "due_at", "pk") for gap in gaps]
