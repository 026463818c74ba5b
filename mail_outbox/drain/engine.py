"""The coordinator: one thread that owns the database, claims for senders that are free and settles what they finish."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from django.db import connections
from django.db.transaction import TransactionManagementError

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.conf import Conf
from mail_outbox.drain.chores import Chores, look_around
from mail_outbox.drain.dispatcher import Dispatcher
from mail_outbox.drain.fitness import Fitness
from mail_outbox.drain.flag import Flag
from mail_outbox.drain.rerouting import Rerouter
from mail_outbox.drain.result import DrainResult, Tally
from mail_outbox.drain.run import Run, moment_in
from mail_outbox.drain.settler import Settler, announce, luck
from mail_outbox.drain.work import policy_of
from mail_outbox.drain.workers import Heartbeat
from mail_outbox.transitions import DATABASE_AWAY, is_unmigrated

logger = logging.getLogger("mail_outbox.worker")

LOOK_AGAIN = (0.05, 0.2)
"""Seconds between looks for new work while something is being sent: from, doubling to."""
UPKEEP_EVERY = 1.0
TROUBLE_WAIT = (0.05, 5.0)
"""Seconds to wait after trouble with the database: from, doubling to."""
LAST_WORDS = 1.0
"""Seconds that senders still have when the run is ended by force: django-q2 kills the process 3 s after its timeout."""
MOST_TROUBLE = 20
"""How many database errors in a row end a run that has no time limit and nothing left to write."""


class Engine:
    """Drains one database; keeps its sender threads and their connections from one run to the next."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.stop_requested = Flag()
        self.heartbeat = Heartbeat(database)
        self._fitness = Fitness(database)
        self._settler = Settler(database, self._fitness)
        self._rerouter = Rerouter(database, self._fitness)
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
        run = Run(
            conf=settings.get_conf(),
            is_guest=connections[self.database].in_atomic_block,
            limit=limit,
            using=using,
            claim_until=moment_in(slice_length),
            end_by=moment_in(most),
        )
        self._upkeep_at = 0.0
        self._dispatcher.prepare(run.conf)
        is_told = is_work_left = False
        try:
            while self._go_on(run):
                if run.has_backlog and not is_told:
                    is_told = True
                    on_backlog()
            is_work_left = run.is_closing and self._is_work_left(run)
        except BaseException as error:
            self._write_last_facts(run, is_forced=not isinstance(error, Exception))
            raise
        finally:
            is_work_left |= self._end_run(run)
        return run.tally.result(is_work_left=is_work_left)

    def settle_late(self) -> None:
        """Write what senders have finished since the last run, and claim nothing; raises the database's error."""
        self._collect_late()
        if self._settler.has_facts:
            self._settler.settle(settings.get_conf(), Tally())

    def stop(self) -> None:
        """Let the senders close their connections and end, give back what none of them has, and take the worker out of its table."""
        self._dispatcher.stop()
        with suppress(*DATABASE_AWAY):  # the lease runs out then
            self._dispatcher.claims.give_back_open()
        self.heartbeat.end()

    def _go_on(self, run: Run) -> bool:
        """Make one round, wait for what comes of it, and tell whether another one is needed."""
        run.close_when_over(self._dispatcher.busy, is_stopping=self.stop_requested.is_set())
        try:
            progress = self._make_round(run)
            rest = None if progress or self._is_busy or run.is_closing else self._dispatcher.seconds_of_rest(run)
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
            look_in = self._dispatcher.seconds_until_look(run)
            self._wait(self._look_again if look_in is None else min(self._look_again, look_in), stop_early=True)
        return True

    @property
    def _is_busy(self) -> bool:
        return bool(self._dispatcher.busy) or self._settler.has_facts or bool(self._dispatcher.finished)

    def _write_last_facts(self, run: Run, *, is_forced: bool) -> None:
        """Write what is out, and what is about to be, before a signal, django-q2's timeout for one, takes the process."""
        connection, claims = connections[self.database], self._dispatcher.claims
        if run.is_guest or not (self._is_busy or (is_forced and claims.is_open)):
            return
        run.is_stopping = True
        self._dispatcher.recall_waiting(run)
        until = time.monotonic() + LAST_WORDS
        while self._dispatcher.busy and self._take_result(max(0.0, until - time.monotonic())):
            pass
        connection.close()  # it may have been in the middle of anything
        with suppress(*DATABASE_AWAY):
            if connection.in_atomic_block:
                connection.connect()  # only this forgets a transaction whose end has been cut short
            self._collect_late()
            self._settler.settle(run.conf, run.tally)
            if is_forced:
                claims.give_back_open()

    def _end_run(self, run: Run) -> bool:
        """Leave the limits of the mailers to others, and tell whether that leaves work; what cannot be left runs out."""
        try:
            return self._dispatcher.end_run(run)
        except DATABASE_AWAY as error:
            if not self._is_hopeless(error):
                self._note_trouble(error)
        except TransactionManagementError:
            pass  # the error that broke the caller's transaction is already on its way
        return False

    def _is_work_left(self, run: Run) -> bool:
        try:
            return self._dispatcher.is_work_left(run)
        except DATABASE_AWAY as error:
            self._note_trouble(error)
            return True

    def _make_round(self, run: Run) -> int:
        """Settle, keep house, claim; return how many entries were moved by the last two."""
        self._collect_late()
        for result in self._dispatcher.give_up_stuck():
            self._settler.add(result)
        self._settler.settle(run.conf, run.tally)
        # Before the rescue, which would take it for lost.
        self._dispatcher.claims.give_back_overdue()
        moved, idle = 0, frozenset[str]()
        if self._rerouter.is_news(run.conf) or time.monotonic() >= self._upkeep_at:
            chores = look_around(self._dispatcher.mailers, database=self.database)
            moved = self._keep_house(run, chores)
            # A batch that moved something may have left something, and given somebody work.
            self._upkeep_at = 0.0 if moved else time.monotonic() + UPKEEP_EVERY
            idle = frozenset() if moved else chores.without_work
        return moved + self._dispatcher.serve(run, idle=idle)

    def _keep_house(self, run: Run, chores: Chores) -> int:
        self._fitness.read(is_ours=chores.is_ours, has_states=chores.has_states)
        if self._fitness.stranger is not None:
            self.heartbeat.beat("paused")
            return 0
        promoted = transitions.promote(database=self.database) if chores.is_due else 0
        expired = transitions.expire(database=self.database) if chores.is_over else 0
        rescued = self._rescue(run.conf) if chores.is_stuck else []
        run.tally.update(promoted=promoted, expired=expired, rescued=len(rescued))
        announce(rescued)
        rerouted = self._rerouter.reroute(run.conf)
        self._dispatcher.keep_connections(run)
        self.heartbeat.beat("draining")
        return promoted + expired + len(rescued) + rerouted

    def _rescue(self, conf: Conf) -> list[transitions.Settlement]:
        return transitions.rescue(policy_of=lambda entry: policy_of(entry, conf), luck=luck, database=self.database)

    def _wait(self, seconds: float, *, stop_early: bool) -> None:
        """Wait for results: for the first so many seconds, then a moment more for those that gather behind it."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self._take_result(left):
            if stop_early:
                until = min(until, time.monotonic() + self._dispatcher.gather) if self._dispatcher.busy else 0.0
                self._rest(until)

    def _rest(self, until: float) -> None:
        """Sleep while the senders have enough to do: each wake takes the interpreter from them."""
        seconds = min(until - time.monotonic(), self._dispatcher.quiet)
        if seconds > 0:
            time.sleep(seconds)
            self._collect_late()

    def _collect_late(self) -> None:
        """Take what senders have finished that nobody waits for any more: a late success is a fact too."""
        while self._take_result(0):
            pass

    def _take_result(self, timeout: float) -> bool:
        """Take the next result, and tell whether there was one; at any moment it stands where the forced end finds it."""
        finished = self._dispatcher.finished.first(timeout)
        if finished is None:
            return False
        if self._dispatcher.is_news(finished):
            self._settler.add(finished.result)
        self._dispatcher.take_back(finished)
        self._dispatcher.finished.drop_first()
        return True

    def _trouble_wait(self) -> float:
        factor: int = 2 ** min(self._trouble, 20)
        longest = min(TROUBLE_WAIT[0] * factor, TROUBLE_WAIT[1])
        return longest * (0.5 + 0.5 * luck())

    def _note_trouble(self, error: Exception) -> None:
        """Log a row of database errors once, and drop a dead connection so that the next round opens a new one."""
        if self._is_hopeless(error):
            raise error
        self._trouble += 1
        # One alone is a deadlock or a lock that was waited for too long: all in a day's work.
        if self._trouble == 2:
            logger.warning("database trouble", extra={"error": type(error).__name__})
        connections[self.database].close_if_unusable_or_obsolete()

    def _is_hopeless(self, error: Exception) -> bool:
        """Tell whether the next round would meet the same: in a broken transaction of the caller's, or without tables."""
        return connections[self.database].in_atomic_block or is_unmigrated(error)
