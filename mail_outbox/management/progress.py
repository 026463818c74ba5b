"""What a drain has come to so far: counts of what was settled, and now and then a line about them."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mail_outbox.core.states import State
from mail_outbox.signals import entry_settled

EVERY = 10.0
"""Seconds between two lines."""


class Progress:
    """Counts the entries that are settled in this process, by the state they end in."""

    def __init__(self, say: Callable[[str], object] | None) -> None:
        self.settled: Counter[str] = Counter()
        self._say = say
        self._said_at = time.monotonic()

    def note(self, *, state: State, **_: object) -> None:
        """Count one entry, and say how far it has come where nothing was said for a while."""
        self.settled[state] += 1
        if self._say is not None and time.monotonic() - self._said_at >= EVERY:
            self._said_at = time.monotonic()
            self._say(counted(self.settled) + " so far")


@contextmanager
def counting(say: Callable[[str], object] | None) -> Iterator[Progress]:
    """Count what is settled meanwhile; None says nothing."""
    progress = Progress(say)
    entry_settled.connect(progress.note)
    try:
        yield progress
    finally:
        entry_settled.disconnect(progress.note)


def counted(counts: Counter[str]) -> str:
    """Write out counts by state, as in `12 sent, 1 failed`."""
    return ", ".join(f"{counts[state]} {state}" for state in State if counts[state]) or "nothing"
