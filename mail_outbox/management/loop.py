"""The engines of all outbox databases, run in turn until the work is done, a bound is reached or somebody says stop."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from queue import Empty, SimpleQueue
from types import FrameType

from django.db import connections

from mail_outbox.conf import get_conf
from mail_outbox.drain import DrainResult, Engine
from mail_outbox.outbox.pruning import keep_house
from mail_outbox.transitions import DATABASE_AWAY, is_unmigrated

logger = logging.getLogger("mail_outbox.worker")

LOOK_AGAIN = 1.0
"""Seconds between looks for new work, where the loop has no end of its own."""


class Loop:
    """Drains until nothing is left, or for ever; `stop` ends it once everything that is being sent is settled."""

    def __init__(
        self,
        *,
        limit: int | None = None,
        using: str | None = None,
        longest: timedelta | None = None,
        forever: bool = False,
    ) -> None:
        self.result = DrainResult()
        self._limit = limit
        self._using = using
        self._forever = forever
        self._end_at = None if longest is None else time.monotonic() + longest.total_seconds()
        self._engines = [Engine(database) for database in get_conf().databases]
        self._keep_house_at = 0.0
        self._is_stopping = False
        self._nudges: SimpleQueue[None] = SimpleQueue()

    def run(self) -> DrainResult:
        """Drain, and return the counts."""
        with ExitStack() as stack:
            for engine in self._engines:
                stack.callback(_end, engine)
            while not self._is_over:
                found = self._turn()
                self.result = replace(self.result.plus(found), is_work_left=found.is_work_left)
                if not self._forever:
                    break
                self._keep_house()
                if not found.attempts and not self._is_over:
                    self._rest()
        return self.result

    def stop(self) -> None:
        """Claim nothing more, and end when what is being sent is settled; may be called by a signal handler."""
        self._is_stopping = True
        for engine in self._engines:
            engine.stop_requested.set()
        # Not a wait on an event: a handler that sets the very event its thread waits for can lock itself out.
        self._nudges.put(None)

    @property
    def is_worn_out(self) -> bool:
        """Tell whether so many senders are stuck that the process should be replaced."""
        return any(engine.is_worn_out for engine in self._engines)

    @property
    def _is_over(self) -> bool:
        return self._is_stopping or self.is_worn_out or self._seconds_left == 0 or self._left(self.result) == 0

    @property
    def _seconds_left(self) -> float | None:
        return None if self._end_at is None else max(0.0, self._end_at - time.monotonic())

    def _left(self, result: DrainResult) -> int | None:
        return None if self._limit is None else max(0, self._limit - result.attempts)

    def _turn(self) -> DrainResult:
        """Run every engine once."""
        found = DrainResult()
        for engine in self._engines:
            left = self._left(self.result.plus(found))
            if left != 0:
                found = found.plus(self._run(engine, left))
        return found

    def _run(self, engine: Engine, left: int | None) -> DrainResult:
        if not self._forever:
            return engine.run(limit=left, using=self._using, slice_length=self._slice())
        try:
            return engine.run(limit=left, using=self._using, slice_length=self._slice())
        except DATABASE_AWAY as error:
            if is_unmigrated(error):
                raise
            # The database will be back; what has been sent meanwhile the engine keeps until then.
            logger.warning("database trouble", extra={"error": type(error).__name__, "database": engine.database})
            return DrainResult()

    def _keep_house(self) -> None:
        """Do now and then what the sweep does besides delivering."""
        if time.monotonic() < self._keep_house_at:
            return
        conf = get_conf()
        self._keep_house_at = time.monotonic() + conf.poll.total_seconds()
        for engine in self._engines:
            if not self._is_stopping:
                keep_house(engine.database, seconds=conf.slice.total_seconds())

    def _slice(self) -> timedelta | None:
        bounds = [] if self._seconds_left is None else [timedelta(seconds=self._seconds_left)]
        if self._forever:
            bounds.append(get_conf().slice)
        return min(bounds, default=None)

    def _rest(self) -> None:
        """Wait a moment, or until somebody says stop."""
        for engine in self._engines:
            connection = connections[engine.database]
            # Inside a transaction, which is one of Django's TestCase, there is nothing to close.
            if not connection.in_atomic_block:
                connection.close_if_unusable_or_obsolete()
        seconds_left = self._seconds_left
        try:
            self._nudges.get(timeout=LOOK_AGAIN if seconds_left is None else min(LOOK_AGAIN, seconds_left))
        except Empty:
            return


def _end(engine: Engine) -> None:
    # Everything is settled by now; a database that is gone costs no more than a row in the table of workers.
    with suppress(*DATABASE_AWAY):
        engine.stop()


@dataclass(slots=True)
class Stopped:
    """Which signal asked for the end, if any did."""

    by: signal.Signals | None = None


@contextmanager
def stopping_on_signals(loop: Loop, say: Callable[[str], object]) -> Iterator[Stopped]:
    """Let the first SIGINT or SIGTERM stop the loop gracefully, and say so; the second does what it did before."""
    stopped = Stopped()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def stop(number: int, _: FrameType | None) -> None:
        restore()
        stopped.by = signal.Signals(number)
        loop.stop()
        # Python refuses to write where the signal has interrupted a write.
        with suppress(RuntimeError):
            say(f"{stopped.by.name}: finishing what is being sent. Once more stops at once.")

    for number in previous:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        restore()
