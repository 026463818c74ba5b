"""Ctrl-C, SIGTERM and a closed terminal as something to look at, instead of an exception in the middle of anything."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue


class Interruption:
    """The requests to stop that have not been looked at yet."""

    def __init__(self) -> None:
        # Of all that threads can wait for, only a SimpleQueue may be filled from a signal handler.
        self._signals: SimpleQueue[int] = SimpleQueue()

    def wait(self, seconds: float) -> bool:
        """Wait so long for a request to stop, and tell whether one came."""
        try:
            self._signals.get(timeout=seconds)
        except Empty:
            return False
        return True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C, SIGTERM and a closed terminal as requests to stop."""
        previous = {
            number: signal.signal(number, lambda number, _: self._signals.put(number))
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
