"""Claims on their way to the senders: asked for, read, and handed out."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

from mail_outbox import transitions
from mail_outbox.core.errors import stack_of
from mail_outbox.drain.reading import read_jobs
from mail_outbox.drain.run import Run
from mail_outbox.drain.senders import Pool
from mail_outbox.drain.slots import MISSED, Departure, Slots
from mail_outbox.drain.turns import Turns
from mail_outbox.drain.work import Job
from mail_outbox.transitions import DATABASE_AWAY

logger = logging.getLogger("mail_outbox.worker")

MOST_TROUBLES = 3
"""How often the database may fail to give a claim before something else is the matter than that it is away: a timeout for one."""


@dataclass(frozen=True, slots=True)
class OpenClaim:
    """A claim that has been asked for and whose entries no sender has yet."""

    pool: Pool
    claim_id: UUID
    lease_until: float


class Claims:
    """One claim at a time, which stays open until its entries are with the senders."""

    def __init__(self, database: str, worker: str, slots: Slots) -> None:
        self._database = database
        self._worker = worker
        self._slots = slots
        self._turns = Turns()
        self._open_claim: OpenClaim | None = None
        self._troubles = 0

    def make(self, pool: Pool, room: int, ahead: int, run: Run, *, lease: timedelta) -> int:
        """Claim for so many free senders, and so many more ahead, hand it out, and return how much there was."""
        # Read before the claim, so that the lease never seems longer than the database thinks it is.
        lease_until = time.monotonic() + lease.total_seconds()
        claim = self._open_claim = OpenClaim(pool, uuid4(), lease_until)
        self._troubles = 0
        departures = self._mark(claim, room, ahead, lease)
        if not departures:
            self._open_claim = None
        return self.start_open(run, departures)

    def start_open(self, run: Run, departures: Mapping[int, Departure | None] | None = None) -> int:
        """Read what was claimed last and give it to the senders, and return how much there was.

        The claim stays open until that is done: where the database goes away in between, the next round takes it up,
        and nobody has to wonder whether it went out. Where anything else is in the way, or the database takes it back but
        does not give it, its mailer rests, and the others go on.
        """
        self.give_back_overdue()
        claim = self._open_claim
        if claim is None:
            return 0
        try:
            jobs = self._read(claim, run, departures)
        except Exception as error:
            self._troubles += 1
            if isinstance(error, DATABASE_AWAY) and self._troubles < MOST_TROUBLES:
                raise
            self._give_up(claim, error, departures or {})
            return 0
        self._open_claim = None
        # What may not wait begins first.
        for job in sorted(jobs, key=lambda job: transitions.may_wait(job.entry)):
            claim.pool.send(job)
        self._turns.note(claim.pool.alias, len(jobs))
        run.claimed += len(jobs)
        return len(jobs)

    @property
    def is_open(self) -> bool:
        """Tell whether something may be claimed that no sender has yet."""
        return self._open_claim is not None

    def give_back_overdue(self) -> None:
        """Put back what was claimed last and no sender has, where its lease is over: nobody else knows that it did not go."""
        if self._open_claim is not None and time.monotonic() > self._open_claim.lease_until:
            self.give_back_open()

    def give_back_open(self) -> None:
        """Put back what was claimed last and no sender has."""
        if self._open_claim is not None:
            transitions.give_back(self._open_claim.claim_id, database=self._database)
            self._open_claim = None

    def _read(self, claim: OpenClaim, run: Run, departures: Mapping[int, Departure | None] | None) -> list[Job]:
        # Taken up later, it has no slots any more that anybody knew, nor connections: it goes back.
        unknown = None if claim.pool.is_unlimited else MISSED
        return read_jobs(
            claim.claim_id,
            departures,
            deadline=run.conf.deadline_of(claim.pool.alias),
            lease_until=claim.lease_until,
            departures=lambda key: (departures or {}).get(key, unknown),
            database=self._database,
        )

    def _give_up(self, claim: OpenClaim, error: Exception, departures: Mapping[int, Departure | None]) -> None:
        """Put back a claim that cannot be read, and log why, but not what the error says."""
        self.give_back_open()
        claim.pool.rest()
        for departure in departures.values():
            if departure is not None:
                self._slots.note_unused(claim.pool.alias, departure)
        about = {"mailer": claim.pool.alias, "error": type(error).__name__, "stack": stack_of(error)}
        logger.error("claim cannot be read", extra=about)

    def _mark(self, claim: OpenClaim, room: int, ahead: int, lease: timedelta) -> Mapping[int, Departure | None]:
        """Claim up to so many entries, and return when each may leave, by primary key."""
        alias, rate = claim.pool.alias, claim.pool.rate
        oldest_of = partial(self._turns.oldest_of, alias)
        if rate is not None:
            return self._slots.claim(alias, room, rate=rate, claim_id=claim.claim_id, oldest_of=oldest_of, lease=lease)
        keys = transitions.claim(
            alias,
            room,
            claim_id=claim.claim_id,
            oldest=oldest_of(room + ahead),
            ahead=ahead,
            worker=self._worker,
            lease=lease,
            database=self._database,
        )
        return dict.fromkeys(keys)
