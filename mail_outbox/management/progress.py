"""How far long work has come: now and then a line about it, for whoever looks on."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, Self, TypeVar

from mail_outbox.core.states import State
from mail_outbox.signals import entry_settled

EVERY = 10.0
"""Seconds between two lines."""

Say = Callable[[str], object]


class Addable(Protocol):
    """A result that can be added to another."""

    def plus(self, other: Self) -> Self:
        """Return the sum of both."""


T = TypeVar("T", bound=Addable)


class Ticker:
    """Says how far something has come where nothing was said for a while; with None it says nothing."""

    def __init__(self, say: Say | None) -> None:
        self._say = say
        self._said_at = time.monotonic()

    def tell(self, words: Callable[[], object]) -> None:
        """Say it, if it is time."""
        if self._say is not None and time.monotonic() - self._said_at >= EVERY:
            self._said_at = time.monotonic()
            self._say(f"{words()} so far")


class Progress:
    """Counts the entries that are settled in this process, by the state they end in."""

    def __init__(self, say: Say | None) -> None:
        self.settled: Counter[str] = Counter()
        self._ticker = Ticker(say)

    def note(self, *, state: State, **_: object) -> None:
        """Count one entry, and say how far it has come where nothing was said for a while."""
        self.settled[state] += 1
        self._ticker.tell(lambda: counted(self.settled))


@contextmanager
def counting(say: Say | None) -> Iterator[Progress]:
    """Count what is settled meanwhile; None says nothing."""
    progress = Progress(say)
    entry_settled.connect(progress.note)
    try:
        yield progress
    finally:
        entry_settled.disconnect(progress.note)


def add_up(steps: Iterable[T], total: T, *, words: Callable[[T], str], say: Say | None) -> T:
    """Take all steps, and return the sum of their results; tell of it in these words now and then."""
    ticker = Ticker(say)
    for step in steps:
        total = total.plus(step)
        ticker.tell(lambda total=total: words(total))  # type: ignore[misc]
    return total


def counted(counts: Counter[str]) -> str:
    """Write out counts by state, as in `12 sent, 1 failed`."""
    return ", ".join(f"{counts[state]} {state}" for state in State if counts[state]) or "nothing"
