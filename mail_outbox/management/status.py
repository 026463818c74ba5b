"""How the outbox is doing, in words for people."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from mail_outbox.core.states import State
from mail_outbox.outbox import MailerStats, Stats

SHOWN = (State.QUEUED, State.SENDING, State.FAILED)


def describe(stats: Stats) -> Iterator[str]:
    """Yield the lines that tell how one database's outbox is doing."""
    yield "Entries: " + _counts(stats.states, State)
    yield "Oldest due: " + ("nothing is due" if stats.oldest_due is None else humanise(stats.oldest_due))
    yield f"Workers: {stats.workers or 'none'} alive"
    width = max((len(mailer.alias) for mailer in stats.mailers), default=0)
    for mailer in stats.mailers:
        yield f"Mailer {mailer.alias:<{width}}  {_counts(mailer.states, SHOWN)}{_trouble(mailer)}"


def humanise(length: timedelta) -> str:
    """Write a length of time in its two largest units, as in `3 min 12 s`."""
    seconds = max(0, int(length.total_seconds()))
    units = {"d": seconds // 86400, "h": seconds // 3600 % 24, "min": seconds // 60 % 60, "s": seconds % 60}
    largest = next((place for place, count in enumerate(units.values()) if count), len(units) - 1)
    shown = list(units.items())[largest : largest + 2]
    return " ".join(f"{count} {unit}" for unit, count in shown if count) or "0 s"


def _counts(states: Mapping[str, int], shown: type[State] | tuple[State, ...]) -> str:
    return ", ".join(f"{states.get(state, 0)} {state}" for state in shown)


def _trouble(mailer: MailerStats) -> str:
    words = []
    if not mailer.is_known:
        words.append("not configured")
    if mailer.is_paused:
        words.append(f"paused: {mailer.pause_reason}" if mailer.pause_reason else "paused")
    if mailer.broken_until is not None:
        words.append(f"resting until {mailer.broken_until:%Y-%m-%d %H:%M:%S %Z}: {mailer.broken_reason}")
    return "".join(f"; {word}" for word in words)
