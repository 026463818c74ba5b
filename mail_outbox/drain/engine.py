"""The coordinator: one thread that owns the database, claims for senders that are free and settles what they finish."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from queue import Empty

from django.db import connections

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.drain.dispatcher import Dispatcher
from mail_outbox.drain.fitness import Fitness
from mail_outbox.drain.result import DrainResult
from mail_outbox.drain.run import Run
from mail_outbox.drain.settler import Settler, announce, luck
from mail_outbox.drain.work import policy_of
from mail_outbox.drain.workers import Heartbeat
from mail_outbox.transitions import DATABASE_AWAY

logger = logging.getLogger("mail_outbox.worker")

GATHER = 0.01
"""Seconds to let results gather while senders are busy, so that settles and claims stay batched at speed."""
LOOK_AGAIN = (0.05, 0.2)
"""Seconds between looks for new work while something is being sent: from, doubling to."""
UPKEEP_EVERY = 1.0
TROUBLE_WAIT = (0.05, 5.0)
"""Seconds to wait after trouble with the database: from, doubling to."""

MOST_TROUBLE = 20
"""How many database errors in a row end a run that has no time limit and nothing left to write."""


class Engine:
    """Drains one database; keeps its sender threads and their connections from one run to the next."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.stop_requested = threading.Event()
        self.heartbeat = Heartbeat(database)
        self._fitness = Fitness(database)
        self._settler = Settler(database, self._fitness)
        self._dispatcher = Dispatcher(database, self.heartbeat.name, self._fitness)
        self._upkeep_at = 0.0
        self._look_again = LOOK_AGAIN[0]
        self._trouble = 0

    @property
    def is_worn_out(self) -> bool:
        """Tell whether so many senders are stuck that the process should be replaced."""
        return self._dispatcher.is_worn_out

    def run(
        self,
        *,
        limit: int | None = None,
        using: str | None = None,
        slice_length: timedelta | None = None,
        most: timedelta | None = None,
        on_backlog: Callable[[], None] = lambda: None,
    ) -> DrainResult:
        """Deliver what is due until nothing is left, or until the slice is over, and return the counts.

        After the slice nothing more is claimed, and the run ends when nothing is in flight. While a slow mailer keeps it
        waiting it goes on serving the others, as long as they can be done within `most`. `on_backlog` is called once, when
        a claim fills all the senders of a mailer: another worker could help. Raises the database's error where it stays
        away and nothing is left to be written.
        """
        now = time.monotonic()
        run = Run(
            conf=settings.get_conf(),
            limit=limit,
            using=using,
            claim_until=None if slice_length is None else now + slice_length.total_seconds(),
            end_by=None if most is None else now + most.total_seconds(),
        )
        self._upkeep_at = 0.0
        self._dispatcher.prepare(run.conf)
        is_told = False
        while self._go_on(run):
            if run.has_backlog and not is_told:
                is_told = True
                on_backlog()
        return run.tally.result(is_work_left=run.is_closing and self._is_work_left(run))

    def stop(self) -> None:
        """Let the senders close their connections and end, and take the worker out of its table."""
        self._dispatcher.stop()
        self.heartbeat.end()

    def _go_on(self, run: Run) -> bool:
        """Make one round, wait for what comes of it, and tell whether another one is needed."""
        run.close_when_over(self._dispatcher.busy, is_stopping=self.stop_requested.is_set())
        try:
            progress = self._make_round(run)
            rest = None if progress or self._is_busy or run.is_closing else self._rest_within(run)
            self._trouble = 0
        except DATABASE_AWAY as error:
            self._note_trouble(error)
            has_waited = run.is_closing or (run.claim_until is None and self._trouble > MOST_TROUBLE)
            if has_waited and not self._is_busy:
                raise
            self._wait(self._trouble_wait(), stop_early=False)
            return True
        if not self._is_busy and (run.is_closing or not progress):
            if rest is not None:
                self._wait(min(rest, LOOK_AGAIN[1]), stop_early=True)
            return rest is not None
        self._look_again = LOOK_AGAIN[0] if progress else min(self._look_again * 2, LOOK_AGAIN[1])
        if self._is_busy:
            self._wait(self._look_again, stop_early=True)
        return True

    @property
    def _is_busy(self) -> bool:
        return bool(self._dispatcher.busy) or self._settler.has_facts

    def _rest_within(self, run: Run) -> float | None:
        """Return how long a mailer with work still rests, if it may be tried again before the slice is over."""
        if run.claim_until is None:
            return None
        rest = self._dispatcher.seconds_of_rest()
        return rest if rest is not None and time.monotonic() + rest < run.claim_until else None

    def _is_work_left(self, run: Run) -> bool:
        try:
            return self._dispatcher.is_work_left(run)
        except DATABASE_AWAY as error:
            self._note_trouble(error)
            return True

    def _make_round(self, run: Run) -> int:
        """Settle, keep house, claim; return how many entries were moved by the last two."""
        self._collect_late()
        self._settler.settle(run.conf, run.tally)
        self._dispatcher.give_up_stuck()
        moved = 0
        if time.monotonic() >= self._upkeep_at:
            moved = self._keep_house(run)
            # A batch that moved something may have left something.
            self._upkeep_at = 0.0 if moved else time.monotonic() + UPKEEP_EVERY
        return moved + self._dispatcher.serve(run)

    def _keep_house(self, run: Run) -> int:
        promoted = transitions.promote(database=self.database)
        expired = transitions.expire(database=self.database)
        rescued = transitions.rescue(
            policy_of=lambda entry: policy_of(entry, run.conf), luck=luck, database=self.database
        )
        run.tally.update(promoted=promoted, expired=expired, rescued=len(rescued))
        announce(rescued)
        self._fitness.read()
        self._dispatcher.look_everywhere()
        self.heartbeat.beat("draining")
        return promoted + expired + len(rescued)

    def _wait(self, seconds: float, *, stop_early: bool) -> None:
        """Wait for results: for the first so many seconds, then a moment more for those that gather behind it."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self._take_result(left):
            if stop_early:
                until = min(until, time.monotonic() + GATHER) if self._dispatcher.busy else 0.0

    def _collect_late(self) -> None:
        """Take what senders have finished that nobody waits for any more: a late success is a fact too."""
        while self._take_result(0):
            pass

    def _take_result(self, timeout: float) -> bool:
        try:
            sender, result = self._dispatcher.finished.get(block=timeout > 0, timeout=timeout)
        except Empty:
            return False
        self._dispatcher.take_back(sender)
        self._settler.add(result)
        return True

    def _trouble_wait(self) -> float:
        factor: int = 2 ** min(self._trouble, 20)
        longest = min(TROUBLE_WAIT[0] * factor, TROUBLE_WAIT[1])
        return longest * (0.5 + 0.5 * luck())

    def _note_trouble(self, error: Exception) -> None:
        """Log a row of database errors once, and drop a dead connection so that the next round opens a new one."""
        connection = connections[self.database]
        if connection.in_atomic_block:
            raise error
        self._trouble += 1
        # One alone is a deadlock or a lock that was waited for too long: all in a day's work.
        if self._trouble == 2:
            logger.warning("database trouble", extra={"error": type(error).__name__})
        connection.close_if_unusable_or_obsolete()
