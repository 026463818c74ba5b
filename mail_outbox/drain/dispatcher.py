"""Work to senders: every mailer in turn is claimed for, as much as its free senders can start now."""

from collections import deque
from collections.abc import Collection
from datetime import timedelta

from django.db.models import QuerySet

from mail_outbox import conf as settings
from mail_outbox.conf import Conf
from mail_outbox.core.rates import HORIZON
from mail_outbox.drain.claims import Claims
from mail_outbox.drain.fitness import Fitness
from mail_outbox.drain.looks import Looks
from mail_outbox.drain.run import Run
from mail_outbox.drain.senders import Finished, Pool
from mail_outbox.drain.shares import Shares
from mail_outbox.drain.slots import Slots
from mail_outbox.drain.tray import Tray
from mail_outbox.drain.work import Result
from mail_outbox.models import OutboxEntry

GATHER, GATHER_AHEAD = 0.01, 0.025
"""Seconds to let results gather while senders are busy, so that settles and claims stay batched at speed."""
WAIT_FOR_GOODBYE = 0.05  # seconds, for a connection that is being closed and still counts


class Dispatcher:
    """The pools of all mailers, served round robin."""

    def __init__(self, database: str, worker: str, fitness: Fitness) -> None:
        self.finished: Tray[Finished] = Tray()
        self._database = database
        self._fitness = fitness
        self._slots = Slots(database, worker)
        self._shares = Shares(database, worker)
        self._pools: dict[str, Pool] = {}
        self._order: deque[str] = deque()
        self._looks = Looks()
        self._held_up: set[str] = set()
        self.claims = Claims(database, worker, self._slots)

    def prepare(self, conf: Conf) -> None:
        """Make a pool for every mailer that has none yet, and look at all of them afresh."""
        for alias in settings.real_mailers():
            if alias not in self._pools:
                self._pools[alias] = Pool(alias, conf.options_of(alias), self.finished)
        self._order = deque(settings.real_mailers())
        self._looks.forget()

    @property
    def mailers(self) -> Collection[str]:
        """Name the mailers that are served."""
        return self._order

    @property
    def busy(self) -> frozenset[str]:
        """Name the mailers that something is being sent through."""
        return frozenset(alias for alias, pool in self._pools.items() if pool.busy or pool.ahead.waiting)

    @property
    def gather(self) -> float:
        """Return how many seconds results may gather while senders are busy."""
        return GATHER_AHEAD if any(pool.ahead.waiting for pool in self._pools.values()) else GATHER

    @property
    def quiet(self) -> float:
        """Return for how many seconds no sender needs to be given anything; 0.0 where one may, or where nothing is sent."""
        return min((pool.ahead.lasts for pool in self._pools.values() if pool.busy), default=0.0)

    @property
    def is_worn_out(self) -> bool:
        """Tell whether so many senders are stuck that the process should be replaced."""
        return any(pool.is_worn_out for pool in self._pools.values())

    def serve(self, run: Run, *, idle: Collection[str] = ()) -> int:
        """Claim for every mailer in turn, hand the jobs to its senders, and return how many there were.

        The `idle` ones have just been seen to have no work.
        """
        self.recall_waiting(run)
        self._slots.refund()
        self._held_up.clear()
        claimed = self.claims.start_open(run)
        claimed += sum(
            self._claim(alias, run) for alias in list(self._order) if alias not in idle and run.may_claim_for(alias)
        )
        self._order.rotate(-1)
        return claimed

    def is_news(self, finished: Finished) -> bool:
        """Tell whether the result is to be settled: of what was stuck it may be known already."""
        sender = finished.sender
        return sender is None or finished.result.is_success or not self._pools[sender.alias].has_judged(sender)

    def take_back(self, finished: Finished) -> None:
        """Note that a sender has finished, and whether its message left at all."""
        sender, result = finished.sender, finished.result
        if sender is not None:
            pool = self._pools[sender.alias]
            pool.ahead.note(result)
            pool.take_back(sender, finished.following)
        if result.outcome is None and result.job.departure is not None:
            self._slots.note_unused(result.job.entry.using, result.job.departure)

    def give_up_stuck(self) -> list[Result]:
        """Free the slots of senders past their deadline, and return what is known; the other entries are left to rescue."""
        return [result for pool in self._pools.values() for result in pool.give_up_stuck()]

    def keep_connections(self, run: Run) -> None:
        """Close the connections that others may need, and hold on to those in use."""
        for alias, pool in self._pools.items():
            self._shares.keep(pool, length=self._claim_length(alias, run.conf))

    def is_work_left(self, run: Run) -> bool:
        """Tell whether an entry is queued that could be sent now, or soon, and that nobody else is known to care for."""
        return any(self._is_work_left_for(alias, run) for alias in self._served_by(run))

    def seconds_of_rest(self, run: Run) -> float | None:
        """Return how long until there may be work for a mailer again, or None where none is worth waiting for.

        Trouble is waited for until the end of the slice; slots in parts, where another slice is to follow.
        """
        rests = [self._rest_of(alias, run) for alias in self._served_by(run)]
        return min((rest for rest in (*rests, self.seconds_until_look(run)) if rest is not None), default=None)

    def seconds_until_look(self, run: Run) -> float | None:
        """Return how long until the queue of a mailer is looked at that had some work a moment ago, but not enough."""
        waits = [self._looks.seconds_until_next(alias) for alias in self._served_by(run)]
        return min((wait for wait in waits if wait is not None), default=None)

    def end_run(self, run: Run) -> bool:
        """Leave to other workers what this one holds of the mailers, and tell whether one of these has work now.

        Whoever looked at it meanwhile has seen that this worker would do it.
        """
        held = self._slots.awaited | self._shares.held
        self._slots.leave()
        for alias, pool in self._pools.items():
            self._shares.give_back(pool, length=self._claim_length(alias, run.conf))
        try:
            return any(self._is_work_left_for(alias, run) for alias in self._served_by(run) if alias in held)
        finally:
            self._slots.leave()

    def stop(self) -> None:
        """Let the senders close their connections and end."""
        for pool in self._pools.values():
            pool.stop()

    def _claim(self, alias: str, run: Run) -> int:
        pool = self._pools[alias]
        room = run.room(self._fitness.room(alias, pool.room, run.conf))
        ahead = self._room_ahead(pool, room, run)
        is_too_soon = room + ahead <= 0 or pool.is_resting or self._looks.seconds_until_next(alias) is not None
        if is_too_soon or (self._looks.was_vain(alias) and not self._queued(alias).exists()):
            return 0
        if not self._slots.opens_in(alias):
            room = self._room_in_share(pool, room, run)
            if room + ahead > 0:
                return self._claim_for(pool, room, ahead, run)
        if self._slots.opens_in(alias) or pool.leaving:
            self._held_up.add(alias)
        return 0

    def _room_ahead(self, pool: Pool, room: int, run: Run) -> int:
        """Return how many more than the senders can start now may be claimed: some where the mailer is fast and fit."""
        free = run.room(room + pool.ahead.room) - room if pool.is_unlimited and not run.is_stopping else 0
        if free <= 0 or self._fitness.needs_probe(pool.alias):
            return 0
        senders = pool.options.concurrency
        return free if self._fitness.room(pool.alias, senders, run.conf) == senders else 0

    def _claim_for(self, pool: Pool, room: int, ahead: int, run: Run) -> int:
        alias = pool.alias
        is_probe = self._fitness.needs_probe(alias)
        if is_probe and not (self._queued(alias).exists() and self._fitness.take_probe(alias, run.conf)):
            return 0
        free = pool.room
        claimed = self.claims.make(pool, room, ahead, run, lease=self._claim_length(alias, run.conf))
        if claimed:
            self._fitness.note_claim(alias, free, run.conf)
        elif is_probe:
            self._fitness.give_probe_back(alias)
        elif not room:
            pool.ahead.rest()
        if not claimed and self._slots.opens_in(alias):
            self._held_up.add(alias)
        is_full = claimed >= max(room, 1) and not pool.room
        run.has_backlog = run.has_backlog or is_full
        if room:
            self._looks.note(alias, found=claimed, room=room, is_paced=run.claim_until is not None)
        return claimed

    def _room_in_share(self, pool: Pool, room: int, run: Run) -> int:
        """Return how many of so many messages may start without opening more connections than the mailer allows."""
        if pool.options.max_connections is None:
            return room
        return self._shares.room(
            pool,
            room,
            longest=run.conf.deadline_of(pool.alias) + _longest_wait(pool),
            length=self._claim_length(pool.alias, run.conf),
            has_work=lambda: self._queued(pool.alias).exists(),
        )

    def _is_work_left_for(self, alias: str, run: Run) -> bool:
        return (
            self._fitness.room(alias, self._pools[alias].room, run.conf) > 0
            and not self._pools[alias].is_resting
            and not self._shares.is_denied(alias)
            and self._queued(alias).exists()
            and self._may_wait_for_slot(alias, run)
        )

    def recall_waiting(self, run: Run) -> None:
        """Call back what still waits where the worker stops, the mailer has got into trouble, or all senders are slow."""
        for alias, pool in self._pools.items():
            may_wait = pool.ahead.waiting or (pool.rate is not None and pool.busy)
            if not may_wait or alias in self._fitness.probing:
                continue
            if pool.ahead.is_overdue:
                pool.ahead.forget()
                pool.recall()
            elif run.is_stopping or self._fitness.is_resting(alias, run.conf):
                pool.recall()
            pool.start_waiting()

    def _rest_of(self, alias: str, run: Run) -> float | None:
        rest = self._fitness.seconds_of_rest(alias)
        if rest is not None:
            rest = max(rest, self._slots.opens_in(alias))
            is_worth_it = run.seconds_left is not None and rest < run.seconds_left
            return rest if is_worth_it and self._queued(alias).exists() else None
        if alias not in self._held_up or not self._queued(alias).exists() or not self._may_wait_for_slot(alias, run):
            return None
        rest = self._slots.opens_in(alias) or WAIT_FOR_GOODBYE
        return rest if run.seconds_left is None else min(rest, run.seconds_left)

    def _may_wait_for_slot(self, alias: str, run: Run) -> bool:
        return self._slots.may_wait(alias, longest=run.conf.poll, slice_left=run.seconds_left)

    def _claim_length(self, alias: str, conf: Conf) -> timedelta:
        return conf.lease_length + _longest_wait(self._pools[alias])

    def _served_by(self, run: Run) -> list[str]:
        return [alias for alias in self._order if run.using is None or alias == run.using]

    def _queued(self, alias: str) -> QuerySet[OutboxEntry]:
        return OutboxEntry.objects.using(self._database).queued(alias)


def _longest_wait(pool: Pool) -> timedelta:
    """Return how long a sender may hold a message before it may leave."""
    return timedelta(0) if pool.rate is None else HORIZON
