"""Who takes turns: workers, a sweep, callers with their transactions, people, and time itself."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from mail_outbox import transitions
from mail_outbox.conf import get_conf, real_mailers
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import Verb
from mail_outbox.drain import claims as claiming
from mail_outbox.drain.fitness import Fitness
from mail_outbox.drain.rerouting import Rerouter
from mail_outbox.drain.result import Tally
from mail_outbox.drain.settler import Settler, announce
from mail_outbox.drain.work import Job, Result, perform, policy_of
from tests.simulation import DATABASE
from tests.simulation.provider import Line
from tests.simulation.watch import Licence

if TYPE_CHECKING:
    from tests.simulation.world import World

SETTLING = frozenset({Verb.SETTLE, Verb.LATE_SUCCESS})


class Worker:
    """What the coordinator of the engine does, a transaction or a send at a time, in any order that it may."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self.is_dead = False
        self.frozen_until = timedelta(0)
        self.jobs: list[Job] = []
        self.in_flight: Job | None = None
        self._world = world
        self._fitness = Fitness(DATABASE)
        self._settler = Settler(DATABASE, self._fitness)
        self._rerouter = Rerouter(DATABASE, self._fitness)
        self._open_claim: tuple[UUID, str, float] | None = None
        self._finished: list[Result] = []
        self._lines = {alias: Line(world, self, alias) for alias in real_mailers()}

    @property
    def message_ids(self) -> set[str]:
        """Name the mails that it has in hand."""
        jobs = [*self.jobs, *([] if self.in_flight is None else [self.in_flight])]
        jobs += [result.job for result in self._finished]
        return {job.entry.message_id for job in jobs}

    def step(self) -> None:
        """Do one of the things that there are to do."""
        if self._open_claim is not None:
            self._act(self._read, Licence())
            return
        watch = self._world.watch
        acts: dict[Callable[[], None], int] = {self._rest: 1, self._keep_house: 1}
        if watch.chores(self._world.clock.now()):
            acts[self._do_chore] = 6
        if watch.queued():
            acts[self._claim_next] = 6
        if self.jobs:
            acts[self._send_next] = 8
        if self._finished:
            acts[self._settle] = 8
        self._world.chance.choices(list(acts), list(acts.values()))[0]()

    def go_round(self) -> None:
        """Do everything that there is to do, as after healing."""
        if self._open_claim is not None:
            self._act(self._read, Licence())
        self._work_off()
        for chore in self._world.watch.chores(self._world.clock.now()):
            self._do(chore)
        for alias in self._world.watch.queued():
            self._claim(alias)
            if self._open_claim is not None:
                self._act(self._read, Licence())
            self._work_off()

    def _work_off(self) -> None:
        while self.jobs:
            self._send_next()
        if self._finished:
            self._settle()

    def _act(self, act: Callable[[], object], licence: Licence) -> None:
        self._world.act(f"{self.name} {act.__name__.strip('_')}", act, licence)

    def _keep_house(self) -> None:
        self._world.chance.choice([self._promote, self._expire, self._rescue, self._reroute, self._count])()

    def _do_chore(self) -> None:
        self._do(self._world.chance.choice(self._world.watch.chores(self._world.clock.now())))

    def _do(self, chore: str) -> None:
        {"promote": self._promote, "expire": self._expire, "rescue": self._rescue}[chore]()

    def _rest(self) -> None:
        """Do nothing."""

    def _promote(self) -> None:
        def promote() -> None:
            transitions.promote(database=DATABASE)

        self._act(promote, Licence(verbs=frozenset({Verb.PROMOTE})))

    def _expire(self) -> None:
        def expire() -> None:
            transitions.expire(database=DATABASE)

        self._act(expire, Licence(verbs=frozenset({Verb.EXPIRE})))

    def _rescue(self) -> None:
        def rescue() -> None:
            conf = get_conf()
            rescued = transitions.rescue(
                policy_of=lambda entry: policy_of(entry, conf), luck=self._world.chance.random, database=DATABASE
            )
            announce(rescued)

        self._act(rescue, Licence(verbs=frozenset({Verb.RESCUE})))

    def _reroute(self) -> None:
        def reroute() -> None:
            self._fitness.read()
            self._rerouter.reroute(get_conf())

        self._act(reroute, Licence())

    def _count(self) -> None:
        def count() -> None:
            transitions.count_attempts(limit=3, database=DATABASE)

        self._act(count, Licence())

    def _claim_next(self) -> None:
        self._claim(self._world.chance.choice(self._world.watch.queued()))

    def _claim(self, alias: str) -> None:
        def claim() -> None:
            conf = get_conf()
            self._fitness.read()
            senders = conf.options_of(alias).concurrency
            room = self._fitness.room(alias, senders, conf)
            if not room:
                return
            is_probe = self._fitness.needs_probe(alias)
            if is_probe and not self._fitness.take_probe(alias, conf):
                return
            lease = conf.lease_length
            claim_id = self._world.new_uuid()
            self._open_claim = (claim_id, alias, self._world.clock.monotonic() + lease.total_seconds())
            keys = transitions.claim(
                alias,
                room,
                claim_id=claim_id,
                oldest=self._world.chance.choice([range(0), range(0), range(1)]),
                ahead=0 if is_probe else self._world.chance.choice([0, 0, 2]),
                worker=self.name,
                lease=lease,
                database=DATABASE,
            )
            self._world.note(f"{alias}: {len(keys)} claimed")
            if keys:
                self._fitness.note_claim(alias, senders, conf)
                return
            self._open_claim = None
            if is_probe:
                self._fitness.give_probe_back(alias)

        self._act(claim, Licence(verbs=frozenset({Verb.CLAIM, Verb.EXPIRE})))

    def _read(self) -> None:
        assert self._open_claim is not None
        claim_id, alias, lease_until = self._open_claim
        if self._world.clock.monotonic() <= lease_until:
            deadline = get_conf().deadline_of(alias)
            jobs = claiming.read_jobs(claim_id, deadline=deadline, lease_until=lease_until, database=DATABASE)
            for job in jobs:
                self._see_to_whom(job)
            self.jobs += jobs
        self._open_claim = None

    def _see_to_whom(self, job: Job) -> None:
        """Demand that nobody is written to who is known to have it, or not to want any."""
        watch, name = self._world.watch, self._world.name(job.entry.message_id)
        known = watch.known_to_have(job.entry.pk) if job.entry.outcome_kind else set()
        addressed = known if job.only is None else known & job.only
        self._world.demand(not addressed, f"{name} goes to {sorted(addressed)}, who have it")
        unwanted = watch.suppressed_among(job.entry.pk) - job.suppressed
        addressed = unwanted if job.only is None else unwanted & job.only
        self._world.demand(not addressed, f"{name} goes to {sorted(addressed)}, who are suppressed")

    def _send_next(self) -> None:
        job = self.jobs.pop(self._world.chance.randrange(len(self.jobs)))

        def send() -> None:
            self.in_flight = job
            with self._world.inside(self):
                result = perform(job, self._lines[job.entry.using])  # type: ignore[arg-type]
            self.in_flight = None
            if not self.is_dead:
                self._finished.append(result)
                self._settler.add(result)

        self._world.act(f"{self.name} send {self._world.name(job.entry.message_id)}", send, Licence(), safe=True)

    def _settle(self) -> None:
        results = list(self._finished)
        claims = frozenset(result.job.claim_id for result in results)

        def settle() -> None:
            self._settler.settle(get_conf(), Tally())
            self._finished = [result for result in self._finished if result not in results]
            for result in results:
                if result.outcome is not None and result.outcome.kind is Kind.SENT:
                    self._world.settled.add(result.job.entry.message_id)

        self._act(settle, Licence(verbs=SETTLING, claims=claims))
