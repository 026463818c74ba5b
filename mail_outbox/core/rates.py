"""How fast a mailer may go: a rate, and the slots into which it divides time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

PERIODS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
RATE = re.compile(r"([1-9][0-9]{0,8})( recipients)?/([smhd])", re.ASCII)

MARGIN = 1.005
"""How much wider apart the slots lie than the rate demands: what is a little late must not meet what is in time."""
HORIZON = timedelta(seconds=1)
"""How far ahead slots are given to messages that wait in the queue."""
FARTHEST = timedelta(seconds=10)
"""How far ahead a slot is given to anybody."""
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many messages, or recipients, per period."""

    count: int
    period: timedelta
    per_recipient: bool = False

    def interval(self, allowance: float) -> timedelta:
        """Return how far apart two slots lie where only this part of the rate (more than 0, at most 1) is allowed."""
        exact = self.period / MICROSECOND * MARGIN / self.count / allowance
        return MICROSECOND * -int(-exact // 1)


@dataclass(frozen=True, slots=True)
class Slot:
    """The moment at which one message may leave, and the moment of the slot after it; by the database's clock."""

    opens_at: datetime
    next_at: datetime


@cache
def parse_rate(text: str) -> Rate:
    """Read a rate like "14/s", "100/m", "5000/h", "50000/d" or "14 recipients/s"; raises ValueError for anything else."""
    found = RATE.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text}' is no rate. Write it like '14/s', '100/m', '5000/h' or '14 recipients/s'.")
    count, recipients, period = found.groups()
    return Rate(int(count), PERIODS[period], per_recipient=recipients is not None)


def next_slot(reserved_until: datetime | None, *, now: datetime, interval: timedelta, per_recipient: bool) -> datetime:
    """Return when the next slot opens: after all that are taken, and never in the past, for what was not used is gone."""
    if reserved_until is None or reserved_until < now:
        return now
    if per_recipient:
        return reserved_until
    # No message has ever been given a slot further off than this: the rate was another one then, or the clock was.
    return min(reserved_until, now + FARTHEST + interval)


def slots_within(first: datetime, *, now: datetime, interval: timedelta) -> int:
    """Return how many slots open before the horizon, from the first one on."""
    ahead = now + HORIZON - first
    return 0 if ahead < timedelta(0) else ahead // interval + 1


def assign_slots(first: datetime, costs: Sequence[int], *, now: datetime, interval: timedelta) -> list[Slot]:
    """Give each message its slot, as long as there are any before the horizon.

    A message that costs more than one (its recipients, where these are what is counted) pushes off those behind it.
    """
    slots: list[Slot] = []
    opens_at = first
    for cost in costs:
        if opens_at > now + HORIZON:
            break
        slots.append(Slot(opens_at, opens_at + interval * max(cost, 1)))
        opens_at = slots[-1].next_at
    return slots


def lateness_allowed(interval: timedelta) -> timedelta:
    """Return how long after its opening a slot may still be used, so that no second sees one message too many."""
    return max(interval / 2, timedelta(milliseconds=35))
