"""The slots of mailers with a rate, on this process's clock: when a message may leave, and who waits for the next one."""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from mail_outbox import transitions
from mail_outbox.core.rates import HORIZON, Rate, Slot, lateness_allowed

AWAIT_MARGIN = timedelta(seconds=5)
"""How much longer than it means to wait a worker keeps others from waiting for the same slot."""


@dataclass(frozen=True, slots=True)
class Departure:
    """When a message may leave, on the monotonic clock: neither before it nor much later, and the slot that is for."""

    slot: Slot | None
    opens_at: float
    closes_at: float

    def wait(self, recalled: threading.Event) -> bool:
        """Wait for it, and tell whether the message may leave: not where it was recalled meanwhile, or comes too late."""
        left = self.opens_at - time.monotonic()
        if left > 0 and recalled.wait(left):
            return False
        return not self.is_over

    @property
    def is_over(self) -> bool:
        """Tell whether it has been missed."""
        return time.monotonic() > self.closes_at


MISSED = Departure(None, -math.inf, -math.inf)
"""The departure of a message whose slot nobody knows any more."""


class Slots:
    """What this worker knows of the slots of each mailer, and what it has to give back."""

    def __init__(self, database: str, worker: str) -> None:
        self._database = database
        self._worker = worker
        self._opens_at: dict[str, float] = {}
        self._interval: dict[str, timedelta] = {}
        self._unused: dict[str, list[Slot]] = defaultdict(list)
        self._awaited: dict[str, float] = {}

    @property
    def awaited(self) -> set[str]:
        """Name the mailers for whose next slot this worker waits."""
        return set(self._awaited)

    def opens_in(self, alias: str) -> float:
        """Return after how many seconds there may be a slot to be had; 0.0 where it is worth asking."""
        return max(0.0, self._opens_at.get(alias, 0.0) - time.monotonic())

    def claim(
        self, alias: str, room: int, *, rate: Rate, claim_id: UUID, oldest_of: Callable[[int], range], lease: timedelta
    ) -> dict[int, Departure]:
        """Claim what has a slot before the horizon, and return when each may leave, by primary key."""
        found = transitions.claim_in_slots(
            alias,
            room,
            rate=rate,
            claim_id=claim_id,
            oldest_of=oldest_of,
            worker=self._worker,
            lease=lease,
            database=self._database,
        )
        self._opens_at[alias] = found.read_at + (found.next_at - found.now - HORIZON).total_seconds()
        self._interval[alias] = found.interval
        late = lateness_allowed(found.interval).total_seconds()
        departures = {}
        for key, slot in found.slots.items():
            ahead = (slot.opens_at - found.now).total_seconds()
            # Neither too early nor too late, whenever between the two moments the database has read its clock.
            departures[key] = Departure(slot, found.read_at + ahead, found.asked_at + ahead + late)
        return departures

    def note_unused(self, alias: str, departure: Departure) -> None:
        """Keep a slot in which nothing left, to be given back."""
        if departure.slot is not None:
            self._unused[alias].append(departure.slot)

    def refund(self) -> None:
        """Give back what was not used, from the last slot on as far as nobody has taken the next one."""
        for alias in list(self._unused):
            slots = self._unused.pop(alias)
            for slot in sorted(slots, key=lambda slot: slot.opens_at, reverse=True):
                if not transitions.refund_slot(alias, slot, database=self._database):
                    break
                self._opens_at.pop(alias, None)

    def may_wait(self, alias: str, *, longest: timedelta, slice_left: float | None) -> bool:
        """Tell whether this worker should wait for the mailer's next slot.

        Without a slice always. Otherwise only one worker waits: where slots lie closer together than the horizon, the
        one that has reserved the last of them is still at work, and of the others one is appointed.
        """
        if slice_left is None:
            return True
        opens_in = self.opens_in(alias)
        if not opens_in:
            return True
        if self._interval[alias] <= HORIZON or opens_in > longest.total_seconds():
            return False
        return self._await(alias, timedelta(seconds=min(opens_in, max(slice_left, 0.0))))

    def leave(self) -> None:
        """Let others wait for the next slots."""
        for alias in list(self._awaited):
            del self._awaited[alias]
            transitions.leave_slot(alias, worker=self._worker, database=self._database)

    def _await(self, alias: str, length: timedelta) -> bool:
        until = time.monotonic() + length.total_seconds()
        if self._awaited.get(alias, 0.0) > until:
            return True
        length += AWAIT_MARGIN
        if not transitions.await_slot(alias, worker=self._worker, length=length, database=self._database):
            return False
        self._awaited[alias] = until + AWAIT_MARGIN.total_seconds()
        return True
