"""One run of the engine: its bounds, and how far it has come."""

import time
from dataclasses import dataclass, field
from datetime import timedelta

from mail_outbox.conf import Conf
from mail_outbox.drain.result import Tally


@dataclass(slots=True, kw_only=True)
class Run:
    """The bounds of one run, on the monotonic clock, and its counts; `is_guest` in a transaction of the caller's.

    `has_backlog` once a claim has filled all the senders there are. Once it is closing, `lingering` names the mailers that keep it from ending.
    """

    conf: Conf
    is_guest: bool = False
    limit: int | None = None
    using: str | None = None
    claim_until: float | None = None
    end_by: float | None = None
    tally: Tally = field(default_factory=Tally)
    claimed: int = 0
    has_backlog: bool = False
    is_closing: bool = False
    is_stopping: bool = False
    lingering: frozenset[str] = frozenset()

    def room(self, room: int) -> int:
        """Return how many of the free senders may still be used."""
        return room if self.limit is None else max(0, min(room, self.limit - self.claimed))

    @property
    def seconds_left(self) -> float | None:
        """Return how much of the slice is left; None where there is none."""
        return None if self.claim_until is None else max(0.0, self.claim_until - time.monotonic())

    def close_when_over(self, busy: frozenset[str], *, is_stopping: bool) -> None:
        """Note that the time is up, and who is still busy from before."""
        self.is_stopping = is_stopping
        is_over = self.claim_until is not None and time.monotonic() >= self.claim_until
        if self.is_closing:
            self.lingering &= busy
        elif is_over or is_stopping or self.room(1) == 0:
            self.is_closing = True
            self.lingering = busy

    def may_claim_for(self, alias: str) -> bool:
        """Tell whether the mailer may be given more: always before the end, and then only while another keeps us waiting."""
        if self.using is not None and alias != self.using:
            return False
        if not self.is_closing:
            return True
        if self.is_stopping or not self.lingering or alias in self.lingering:
            return False
        return self.end_by is None or time.monotonic() + self.conf.deadline_of(alias).total_seconds() < self.end_by


def moment_in(length: timedelta | None) -> float | None:
    """Return the moment of the monotonic clock that lies so far ahead; None where there is no limit."""
    return None if length is None else time.monotonic() + length.total_seconds()
