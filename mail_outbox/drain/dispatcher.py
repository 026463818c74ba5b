"""Work to senders: every mailer in turn is claimed for, as much as its free senders can start now."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from uuid import UUID, uuid4

from django.db.models import QuerySet

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.conf import Conf
from mail_outbox.drain.fitness import Fitness
from mail_outbox.drain.run import Run
from mail_outbox.drain.senders import Pool, Sender
from mail_outbox.drain.work import Result, read_jobs
from mail_outbox.models import OutboxEntry

OLDEST_ONE_IN = 10
"""One place in so many goes to the oldest entry whatever its priority, so that nothing starves."""


@dataclass(frozen=True, slots=True)
class OpenClaim:
    """A claim that has been asked for and whose entries no sender has yet."""

    pool: Pool
    claim_id: UUID
    lease_until: float


class Dispatcher:
    """The pools of all mailers, served round robin."""

    def __init__(self, database: str, worker: str, fitness: Fitness) -> None:
        self.finished: SimpleQueue[tuple[Sender, Result]] = SimpleQueue()
        self._database = database
        self._worker = worker
        self._fitness = fitness
        self._pools: dict[str, Pool] = {}
        self._order: deque[str] = deque()
        self._served: dict[str, int] = {}
        self._quiet: set[str] = set()
        self._open_claim: OpenClaim | None = None

    def prepare(self, conf: Conf) -> None:
        """Make a pool for every mailer that has none yet, and look at all of them afresh."""
        for alias in settings.real_mailers():
            if alias not in self._pools:
                self._pools[alias] = Pool(alias, conf.options_of(alias), self.finished)
        self._order = deque(settings.real_mailers())
        self._quiet.clear()

    @property
    def busy(self) -> frozenset[str]:
        """Name the mailers that something is being sent through."""
        return frozenset(alias for alias, pool in self._pools.items() if pool.busy)

    @property
    def is_worn_out(self) -> bool:
        """Tell whether so many senders are stuck that the process should be replaced."""
        return any(pool.is_worn_out for pool in self._pools.values())

    def serve(self, run: Run) -> int:
        """Claim for every mailer in turn, hand the jobs to its senders, and return how many there were."""
        claimed = self._start_open_claim(run)
        claimed += sum(self._claim(alias, run) for alias in list(self._order) if run.may_claim_for(alias))
        self._order.rotate(-1)
        return claimed

    def look_everywhere(self) -> None:
        """Forget which mailers had nothing to send a moment ago."""
        self._quiet.clear()

    def take_back(self, sender: Sender) -> None:
        """Note that a sender has finished."""
        self._pools[sender.alias].take_back(sender)

    def give_up_stuck(self) -> None:
        """Free the slots of senders past their deadline; their entries are left to rescue."""
        for pool in self._pools.values():
            pool.give_up_stuck()

    def is_work_left(self, run: Run) -> bool:
        """Tell whether an entry is queued that could be sent right now."""
        return any(
            (run.using is None or alias == run.using)
            and self._fitness.room(alias, self._pools[alias].room, run.conf) > 0
            and self._queued(alias).exists()
            for alias in self._order
        )

    def seconds_of_rest(self) -> float | None:
        """Return how long until a mailer with work may be tried again, or None where none is resting after trouble."""
        rests = {alias: self._fitness.seconds_of_rest(alias) for alias in self._order}
        return min(
            (rest for alias, rest in rests.items() if rest is not None and self._queued(alias).exists()), default=None
        )

    def stop(self) -> None:
        """Let the senders close their connections and end."""
        for pool in self._pools.values():
            pool.stop()

    def _claim(self, alias: str, run: Run) -> int:
        pool = self._pools[alias]
        room = run.room(self._fitness.room(alias, pool.room, run.conf))
        if room <= 0 or (alias in self._quiet and not self._queued(alias).exists()):
            return 0
        is_probe = self._fitness.needs_probe(alias)
        if is_probe and not (self._queued(alias).exists() and self._fitness.take_probe(alias, run.conf)):
            return 0
        claimed = self._hand_out(pool, room, run)
        if is_probe and not claimed:
            self._fitness.give_probe_back(alias)
        is_full = claimed == room and not pool.room
        run.has_backlog = run.has_backlog or is_full
        (self._quiet.add if claimed < room else self._quiet.discard)(alias)
        return claimed

    def _hand_out(self, pool: Pool, room: int, run: Run) -> int:
        lease = run.conf.lease_length
        # Read before the claim, so that the lease never seems longer than the database thinks it is.
        lease_until = time.monotonic() + lease.total_seconds()
        served = self._served.get(pool.alias, 0)
        self._open_claim = OpenClaim(pool, uuid4(), lease_until)
        keys = transitions.claim(
            pool.alias,
            room,
            claim_id=self._open_claim.claim_id,
            oldest=(served + room) // OLDEST_ONE_IN - served // OLDEST_ONE_IN,
            worker=self._worker,
            lease=lease,
            database=self._database,
        )
        if not keys:
            self._open_claim = None
        return self._start_open_claim(run, keys)

    def _start_open_claim(self, run: Run, keys: Sequence[int] | None = None) -> int:
        """Read what was claimed last and give it to the senders, and return how much there was.

        The claim stays open until that is done: where the database goes away in between, the next round takes it up,
        and nobody has to wonder whether it went out.
        """
        claim = self._open_claim
        if claim is None:
            return 0
        if time.monotonic() > claim.lease_until:
            self._open_claim = None
            return 0
        deadline = run.conf.deadline_of(claim.pool.alias)
        jobs = read_jobs(
            claim.claim_id, keys, deadline=deadline, lease_until=claim.lease_until, database=self._database
        )
        self._open_claim = None
        for job in jobs:
            claim.pool.send(job)
        self._served[claim.pool.alias] = self._served.get(claim.pool.alias, 0) + len(jobs)
        run.claimed += len(jobs)
        return len(jobs)

    def _queued(self, alias: str) -> QuerySet[OutboxEntry]:
        return OutboxEntry.objects.using(self._database).queued(alias)
