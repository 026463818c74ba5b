"""How many may go out now: pauses after trouble with a mailer, and the ramp after them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from mail_outbox.core.outcomes import Kind, Outcome, Throttled

SHORTEST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(hours=1)
FIRST_BREAK = timedelta(seconds=30)
LONGEST_BREAK = timedelta(minutes=15)

REACHED = frozenset({Kind.SENT, Kind.PARTIAL, Kind.PERMANENT, Kind.CANCELLED})
"""Outcomes that prove the mailer works: it took the message, or judged it."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a mailer must rest, and for how long at this number of strikes in a row."""

    outcome: Outcome

    def pause_after(self, strikes: int, *, luck: float) -> timedelta:
        """Return how long to rest after this many earlier strikes; `luck` in 0…1 is the jitter.

        Throttled: what the provider asks, at least 2^k s, between 1 s and 1 h. Otherwise 30 s, doubling, at most
        15 min, between three quarters and all of it.
        """
        doublings: int = 2 ** min(strikes, 20)
        if isinstance(self.outcome, Throttled):
            asked = self.outcome.retry_after or SHORTEST_PAUSE
            return min(max(asked, SHORTEST_PAUSE * doublings), LONGEST_PAUSE)
        return min(FIRST_BREAK * doublings, LONGEST_BREAK) * (0.75 + 0.25 * luck)


def trouble_in(outcomes: Iterable[Outcome]) -> Trouble | None:
    """Return the trouble the mailer is in after these outcomes, or None; a plain fault outweighs a request to slow down."""
    found: Trouble | None = None
    for outcome in outcomes:
        if outcome.kind is Kind.MAILER:
            return Trouble(outcome)
        if outcome.kind is Kind.THROTTLED:
            found = Trouble(outcome)
    return found


def room_after_recovery(concurrency: int, since: timedelta) -> int:
    """Return how many senders may be busy this long after a mailer recovered: 1, doubling every second."""
    seconds = max(int(since.total_seconds()), 0)
    return concurrency if seconds > concurrency.bit_length() else min(concurrency, 2**seconds)
