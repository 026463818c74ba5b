"""This worker's share of the connections that a mailer allows over all workers."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from mail_outbox import transitions
from mail_outbox.drain.senders import Pool

ASK_AGAIN = 0.25
"""Seconds before a worker that did not get all it wanted asks once more."""
LONGEST_GOODBYE = 3.0
"""Seconds that the end of a run waits for connections to be closed."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many connections until then, on the monotonic clock; never more than what stands in the database.

    Without an end nobody knows what stands there.
    """

    count: int = 0
    until: float = 0.0


NOTHING = Share()


class Shares:
    """The shares of all pools whose mailer has a limit."""

    def __init__(self, database: str, worker: str) -> None:
        self._database = database
        self._worker = worker
        self._held: dict[str, Share] = {}
        self._ask_at: dict[str, float] = {}

    @property
    def held(self) -> set[str]:
        """Name the mailers of which this worker has connections."""
        return {alias for alias, share in self._held.items() if share.count}

    def room(
        self, pool: Pool, room: int, *, longest: timedelta, length: timedelta, has_work: Callable[[], bool]
    ) -> int:
        """Return how many of so many messages may start now, asking for a larger share where that is needed.

        The share must last for the `longest` that a message may take; it is asked for for the whole `length`.
        """
        share = self._held.get(pool.alias, NOTHING)
        now = time.monotonic()
        is_fresh = share.until >= now + longest.total_seconds()
        if not (is_fresh and share.count >= pool.engaged + room) and now >= self._ask_at.get(pool.alias, 0.0):
            if not has_work():
                return 0
            share = self._ask(pool, max(pool.engaged + room, pool.alive), length)
            is_fresh = True
        pool.retire(keep=share.count - pool.engaged)
        return max(0, min(room, share.count - pool.engaged)) if is_fresh else 0

    def is_denied(self, alias: str) -> bool:
        """Tell whether others have all the connections, so that they have to go on with the work."""
        share = self._held.get(alias, NOTHING)
        return share.until > 0 and not share.count

    def keep(self, pool: Pool, *, length: timedelta) -> None:
        """Close the connections that were not needed of late and shrink the share to what is left; renew it in time."""
        share = self._held.get(pool.alias, NOTHING)
        if not share.count:
            return
        pool.retire(keep=pool.take_peak() - pool.busy)
        is_old = share.until < time.monotonic() + length.total_seconds() / 2
        if pool.alive < share.count or is_old:
            self._hold_what_is_open(pool, length)

    def give_back(self, pool: Pool, *, length: timedelta) -> None:
        """Close all idle connections, and hold only what a stuck sender may still have open."""
        if pool.alias not in self._held:
            return
        pool.retire(keep=0)
        pool.join_leaving(time.monotonic() + LONGEST_GOODBYE)
        if not self.is_denied(pool.alias):
            self._hold_what_is_open(pool, length)
        self._held.pop(pool.alias, None)
        self._ask_at.pop(pool.alias, None)

    def _hold_what_is_open(self, pool: Pool, length: timedelta) -> None:
        if pool.alive:
            share = self._ask(pool, pool.alive, length)
            pool.retire(keep=share.count - pool.engaged)
            return
        self._held[pool.alias] = NOTHING
        transitions.give_share_back(pool.alias, worker=self._worker, database=self._database)
        del self._held[pool.alias]

    def _ask(self, pool: Pool, wanted: int, length: timedelta) -> Share:
        limit = pool.options.max_connections
        assert limit is not None, "asked only about mailers with a limit"  # noqa: S101
        # Forgotten first, and the clock read before: where the answer is lost, this worker has less than stands there.
        self._held[pool.alias] = NOTHING
        until = time.monotonic() + length.total_seconds()
        granted = transitions.take_share(
            pool.alias, worker=self._worker, wanted=wanted, limit=limit, length=length, database=self._database
        )
        share = self._held[pool.alias] = Share(granted, until)
        self._ask_at[pool.alias] = time.monotonic() + (ASK_AGAIN if granted < wanted else 0.0)
        return share
