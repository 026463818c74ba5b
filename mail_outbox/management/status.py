"""How the outbox is doing, in words for people."""

from collections.abc import Iterator, Mapping

from mail_outbox.core.durations import humanise
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
        yield f"Mailer {mailer.alias:<{width}}  {_counts(mailer.states, SHOWN)}{_limits(mailer)}{_trouble(mailer)}"


def _counts(states: Mapping[str, int], shown: type[State] | tuple[State, ...]) -> str:
    return ", ".join(f"{states.get(state, 0)} {state}" for state in shown)


def _limits(mailer: MailerStats) -> str:
    words = [] if mailer.rate is None else [f"at most {mailer.rate}"]
    if mailer.allowance < 1:
        words.append(f"slowed down to {mailer.allowance:.0%}")
    return "".join(f"; {word}" for word in words)


def _trouble(mailer: MailerStats) -> str:
    words = []
    if not mailer.is_known:
        words.append("not configured")
    if mailer.is_paused:
        words.append(f"paused: {mailer.pause_reason}" if mailer.pause_reason else "paused")
    if mailer.broken_until is not None:
        words.append(f"resting until {mailer.broken_until:%Y-%m-%d %H:%M:%S %Z}: {mailer.broken_reason}")
    return "".join(f"; {word}" for word in words)
