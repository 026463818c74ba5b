"""What is claimed a moment ahead of fast senders, so that claims and settles come in batches."""

import time
from queue import Empty, SimpleQueue

from mail_outbox.core.envelope import Envelope
from mail_outbox.core.envelope.streams import size_of
from mail_outbox.drain.work import Job, Result

WORTH = 0.2
"""Seconds of work that may wait for a sender."""
SLOW = 0.25
"""Seconds for one message from which on nothing is claimed ahead: a sender is free so rarely that it may as well wait."""
MOST, MOST_BYTES = 64, 1_000_000
"""How many messages may wait, and how many bytes of attachments with them."""
PROVEN_AFTER = 16
"""Attempts after which the pace of a mailer is known."""
PATIENCE = 1.0
"""Seconds after which what waits is given back: all senders have become slow at once."""
WEIGHT = 0.1
"""How much the latest attempt counts for the pace."""


class Ahead:
    """The jobs of one mailer that wait for the next free sender, and how many there may be at its pace.

    Only entries that have never been tried, and whose policy is to repeat, wait here: should the worker be lost, they are
    taken for tried, which costs those no more than the wait for the rescue.
    """

    def __init__(self, senders: int) -> None:
        self._senders = senders
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._attempts = 0
        self._seconds = 0.0
        self._bytes = 0.0
        self._begun_at = 0.0
        self._rests_until = 0.0

    @property
    def waiting(self) -> int:
        """Return how many jobs wait."""
        return self._jobs.qsize()

    @property
    def is_overdue(self) -> bool:
        """Tell whether something has waited for so long that another worker had better take it."""
        return self.waiting > 0 and time.monotonic() - self._begun_at > PATIENCE

    @property
    def lasts(self) -> float:
        """Return for how many seconds nobody need look, at the pace of the mailer: until there is room again."""
        return max(0.0, self.waiting - self._most() / 2) * self._seconds / self._senders

    @property
    def room(self) -> int:
        """Return how many more may wait; none until there is room for a good part of them."""
        most = self._most()
        free = most - self.waiting
        return free if most and 2 * free >= most and time.monotonic() >= self._rests_until else 0

    def note(self, result: Result) -> None:
        """Note how long an attempt took, and how large the message was."""
        if result.outcome is not None:
            weight = max(WEIGHT, 1 / (self._attempts + 1))
            self._attempts += 1
            self._seconds += weight * (result.duration.total_seconds() - self._seconds)
            self._bytes += weight * (_size_of(result.job) - self._bytes)

    def forget(self) -> None:
        """Forget the pace of the mailer: it has changed."""
        self._attempts = 0

    def rest(self) -> None:
        """Look for no more for a while: what comes next in line is not for waiting."""
        self._rests_until = time.monotonic() + PATIENCE

    def put(self, job: Job) -> None:
        """Let the job wait for the next free sender."""
        if not self.waiting:
            self._begun_at = time.monotonic()
        self._jobs.put(job)

    def take(self) -> Job | None:
        """Return the job that has waited longest, or None; any thread may ask."""
        try:
            job = self._jobs.get_nowait()
        except Empty:
            return None
        self._begun_at = time.monotonic()
        return job

    def _most(self) -> int:
        if self._attempts < PROVEN_AFTER or self._seconds > SLOW:
            return 0
        by_time = int(WORTH * self._senders / max(self._seconds, 0.001))
        return min(MOST, by_time, int(MOST_BYTES / max(self._bytes, 1)))


def _size_of(job: Job) -> int:
    return sum(size_of(blob) for blob in job.envelope.blobs.values()) if isinstance(job.envelope, Envelope) else 0
