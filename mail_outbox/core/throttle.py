"""How many may go out now: pauses after trouble with a mailer, and the ramp after them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from mail_outbox.core.outcomes import Kind, Outcome, Throttled, Transient

SHORTEST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(hours=1)
FIRST_BREAK = timedelta(seconds=30)
LONGEST_BREAK = timedelta(minutes=15)
FULL_SPEED_AFTER = timedelta(minutes=10)
"""How long a mailer takes at the most from its slowest to its full speed."""
SLOWEST = 1 / 64
"""The part of its speed that a mailer is left with however often it is throttled."""

REACHED = frozenset({Kind.SENT, Kind.PARTIAL, Kind.PERMANENT, Kind.CANCELLED})
"""Outcomes that prove the mailer works: it took the message, or judged it."""

HANGS = frozenset({"timeout", "deadline"})
"""The codes of a mailer's trouble that shows only in that nothing comes back."""


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
        if outcome.kind is Kind.MAILER or (isinstance(outcome, Transient) and outcome.is_in_a_row):
            return Trouble(outcome)
        if outcome.kind is Kind.THROTTLED:
            found = Trouble(outcome)
    return found


def is_hang(outcome: Outcome) -> bool:
    """Tell whether a connection to the mailer did not come about in time; others may work all the same."""
    return outcome.kind is Kind.MAILER and outcome.code in HANGS


def room_after_recovery(concurrency: int, since: timedelta) -> int:
    """Return how many senders may be busy this long after a mailer recovered: 1, doubling every second."""
    seconds = max(int(since.total_seconds()), 0)
    return concurrency if seconds > concurrency.bit_length() else min(concurrency, 2**seconds)


def slowed(allowance: float) -> float:
    """Return the part of its speed that is left to a mailer once it has been throttled: half."""
    return max(allowance / 2, SLOWEST)


def allowance_after(allowance: float, since: timedelta) -> float:
    """Return the part of its speed that a mailer may use this long after it was slowed down; it grows evenly with time."""
    return min(1.0, allowance + max(since, timedelta(0)) / FULL_SPEED_AFTER)


def senders_allowed(concurrency: int, allowance: float) -> int:
    """Return how many senders a mailer without a rate may use at this part of its speed: at least one."""
    return max(1, int(concurrency * allowance))
