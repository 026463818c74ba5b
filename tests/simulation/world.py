"""One run: a seed, the actors it lets take turns, the faults it brings on, and what comes of it all."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import connection, transaction

from mail_outbox import outbox, transitions
from mail_outbox.core.states import UNFINISHED
from mail_outbox.models import Instance, OutboxEntry
from mail_outbox.outbox import suppressing
from mail_outbox.transitions import DATABASE_AWAY
from tests.simulation import DATABASE, trouble
from tests.simulation.actors import Worker
from tests.simulation.callers import SWEEPING, Caller, Person, sweep
from tests.simulation.clock import Clock
from tests.simulation.provider import Journal
from tests.simulation.verdict import judge, miscounted
from tests.simulation.watch import Licence, Watch
from tests.totalqueue.checker import Fate, Row

STEPS = 55
MAILS = 7
ROUNDS = 120
"""How many rounds it may take after healing until everything is over."""
ROUND = timedelta(minutes=20)
PAUSES = {0.02: 30, 1: 20, 15: 15, 40: 15, 70: 8, 130: 8, 700: 3, 8000: 1}
"""Seconds that pass at once: a moment, a backoff, a deadline (60), a lease (120), the life of a provider's key (7200)."""
DEEPEST = 3


class Broken(AssertionError):
    """Something that was promised does not hold."""


class World:
    """Everything there is in one run."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self.chance = random.Random(seed)
        self.clock = clock
        self.journal = Journal()
        self.watch = Watch(self.name)
        self.trace: list[str] = []
        self.fates: dict[str, Fate] = {}
        self.settled: set[str] = set()
        self.pruned: list[Row] = []
        self.pruned_attempts = 0
        self.is_broken = True
        self.is_hold_only = self.chance.random() < 0.2
        self.faults: Counter[str] = Counter()
        self._names: dict[str, str] = {}
        self._told: dict[str, Counter[str]] = {}
        self._error: BaseException | None = None
        self._stack: list[Worker] = []
        self._number = 0
        self._has_written = False
        self.workers = [self._new_worker() for _ in range(self.chance.choice([1, 2, 2, 3]))]
        self.all_workers = list(self.workers)
        self._callers = [Caller(self, name) for name in "ab"]
        self._people = [Person(self, "person")] if self.chance.random() < 0.5 else []

    def run(self) -> None:
        """Let everybody take turns while things break, heal, let everything end, and check what was promised."""
        with connection.execute_wrapper(self._see):
            for caller in self._callers:
                caller.step()
            for _ in range(STEPS):
                self._take_turn()
            self._heal()
        self._check()

    def act(self, what: str, act: Callable[[], object], licence: Licence, *, safe: bool = False) -> None:
        """Let one step happen, perhaps with trouble on the way, and see that it did only what it may."""
        if not self._stack:
            self._error = None
        self.note(what)
        try:
            if safe or not self.is_broken or self.chance.random() > 0.08:
                act()
            else:
                with trouble.drawn(self.chance) as name:
                    self.faults[name] += 1
                    self.note(f"  {name}")
                    act()
        except DATABASE_AWAY as error:
            self.demand(trouble.AWAY in str(error), f"{what}: {error}")
            self.note("  database trouble")
        self.demand(not connection.in_atomic_block, f"{what}: left a transaction open")
        if self._has_written:
            self._has_written = False
            wrong = self.watch.look(licence, now=self.clock.now())
            self.demand(not wrong, f"{what}: {'; '.join(wrong)}")
        if self._error is not None:
            raise self._error

    def _see(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001 (Django's)
        if not sql.startswith(("SELECT", "BEGIN")):
            self._has_written = True
        return execute(sql, params, many, context)

    def demand(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001
        """End the run where something does not hold, however deep inside of a send."""
        if not holds:
            self.note(f"BROKEN: {otherwise}")
            self._error = Broken(otherwise)
            raise self._error

    def meanwhile(self, chance: float) -> None:
        """Let others go on while a worker is in the middle of a send, or of being frozen there."""
        self.demand(not connection.in_atomic_block, "a transaction is open while a mail is on its way")
        if not self.is_broken or len(self._stack) >= DEEPEST or self.chance.random() > chance:
            return
        if self.chance.random() < 0.3:
            self._pass(timedelta(seconds=self.chance.choice([61, 130, 200])))
        for _ in range(self.chance.randint(1, 8)):
            try:
                self._take_turn()
            except BaseException as error:
                self._error = error  # a worker takes whatever a send raises for an answer
                raise

    @contextmanager
    def inside(self, worker: Worker) -> Iterator[None]:
        """Keep the worker from taking a turn while it is in the middle of one."""
        self._stack.append(worker)
        try:
            yield
        finally:
            self._stack.pop()

    def invoke(self, message_id: str, name: str) -> None:
        """Note that somebody is about to enqueue this."""
        self._names[message_id] = name
        self._told.setdefault(message_id, Counter())["invoke"] += 1
        self._judge(message_id)

    def end(self, message_id: str, fate: Fate) -> None:
        """Note what the caller knows of the transaction."""
        self._told[message_id][fate] += 1
        self._judge(message_id)

    def name(self, message_id: str) -> str:
        """Return what the mail is called in the trace."""
        return self._names.get(message_id, message_id)

    def note(self, what: str) -> None:
        """Write a line into the trace."""
        self.trace.append(f"{self.clock.passed.total_seconds():10.2f} {'  ' * len(self._stack)}{what}")

    def new_uuid(self) -> UUID:
        """Return an id that the seed decides."""
        return UUID(int=self.chance.getrandbits(128), version=4)

    def _judge(self, message_id: str) -> None:
        told = self._told[message_id]
        if told[Fate.COMMITTED]:
            self.fates[message_id] = Fate.COMMITTED
        elif told[Fate.ROLLED_BACK] >= told["invoke"]:
            self.fates[message_id] = Fate.ROLLED_BACK
        else:
            self.fates[message_id] = Fate.UNKNOWN

    def _new_worker(self) -> Worker:
        self._number += 1
        return Worker(self, f"worker-{self._number}")

    def _take_turn(self) -> None:
        lot = self.chance.random()
        if lot < 0.1:
            self._let_time_pass()
        elif lot < 0.14:
            self._break_a_worker()
        elif lot < 0.16:
            self.act("sweep", sweep, SWEEPING)
        elif lot < 0.28 and len(self.fates) < MAILS:
            self.chance.choice(self._callers).step()
        elif lot > 0.88 and self._people:
            self.chance.choice(self._people).step()
        else:
            awake = [
                each for each in self.workers if each not in self._stack and each.frozen_until <= self.clock.passed
            ]
            if awake:
                self.chance.choice(awake).step()

    def _let_time_pass(self) -> None:
        self._pass(timedelta(seconds=self.chance.choices(list(PAUSES), list(PAUSES.values()))[0]))

    def _pass(self, time: timedelta) -> None:
        self.clock.advance(time)
        self.note(f"{time.total_seconds():g} s pass")

    def _break_a_worker(self) -> None:
        busy = [number for number, worker in enumerate(self.workers) if worker.message_ids]
        number = self.chance.choice(busy or range(len(self.workers)))
        worker = self.workers[number]
        if self.chance.random() < 0.5:
            self.faults["kill"] += 1
            worker.is_dead = True
            self.workers[number] = self._new_worker()
            self.all_workers.append(self.workers[number])
            self.note(f"{worker.name} is killed, {self.workers[number].name} comes")
        else:
            self.faults["freeze"] += 1
            length = timedelta(seconds=self.chance.choice([5, 130, 200, 1000]))
            worker.frozen_until = self.clock.passed + length
            self.note(f"{worker.name} is frozen for {length.total_seconds():g} s")
            if self.chance.random() < 0.4:
                self._pass(length - timedelta(seconds=1))

    def _heal(self) -> None:
        self.is_broken = False
        self.note("everything is healed")
        self.act("resume", outbox.resume, Licence())
        for number in range(ROUNDS):
            # All of them bring to an end what they have in hand, and then one will do.
            for worker in self.workers if not number else self.workers[:1]:
                worker.go_round()
            if not OutboxEntry.objects.filter(state__in=UNFINISHED).exists():
                return
            self.clock.advance(ROUND)

    def _check(self) -> None:
        for _ in range(3):
            self.clock.advance(ROUND)
            while transitions.count_attempts(database=DATABASE):
                pass  # so many keys at a time, whose first may be as high as earlier tests have left it
        self.demand(not (wrong := miscounted(self)), wrong)
        verdict = judge(self)
        told = {what: [self.name(key) for key in keys] for what, keys in verdict.broken.items()}
        self.demand(verdict.is_valid, f"{told}")


def empty() -> None:
    """Remove all that a run has left behind, in the database and in this process."""
    suppressing.forget()
    tables = [
        model._meta.db_table for model in apps.get_app_config("mail_outbox").get_models() if model is not Instance
    ]
    with connection.constraint_checks_disabled(), transaction.atomic(), connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608
