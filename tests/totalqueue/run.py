"""One run: start, break, heal, drain within a bound, and gather what the checker judges."""

import random
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from django.core.management import call_command
from django.db import Error, connection
from django_q.tasks import async_task

from mail_outbox import outbox, tasks
from mail_outbox.core.states import UNFINISHED, State
from mail_outbox.models import OutboxEntry, UtcNow, Worker
from tests.journey.processes import eventually
from tests.totalqueue import LEASE, evidence, nemesis
from tests.totalqueue.checker import Evidence
from tests.totalqueue.databases import Database
from tests.totalqueue.history import History
from tests.totalqueue.nemesis import Step
from tests.totalqueue.providers import Providers
from tests.totalqueue.proxy import Proxy
from tests.totalqueue.services import Service

T = TypeVar("T")
PATIENCE = 90.0
"""Seconds within which everything must be terminal after healing: a breaker's probe may be lost with its worker."""
QUIET = 0.05
LONGEST_REST = 1.5
"""Seconds after which resting mailers are resumed while things break."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What kind of run it is."""

    seed: int
    seconds: float
    steps: tuple[Step, ...]
    clusters: int = 2
    drains: int = 1
    enqueuers: int = 3
    patience: float = PATIENCE


class Shape(Protocol):
    """What is being tested: the outbox, or the shape of another."""

    name: str

    def install(self) -> None:
        """Make what it needs in the empty database."""

    def workers(self, options: Options) -> dict[str, list[str]]:
        """Return the commands of its workers by name."""

    def look(self) -> None:
        """Let workers look for work."""

    def unfinished(self) -> int:
        """Count what still waits or is being sent."""

    def resume(self) -> None:
        """Let paused mailers work again."""

    def gather(self, history: Path, providers: Providers) -> Evidence:
        """Read what the run has left behind."""


class Outbox:
    """The outbox itself, drained by clusters and by drains of their own."""

    name = "outbox"

    def install(self) -> None:
        """Migrate, and let the database note every change of state."""
        call_command("migrate", verbosity=0)
        evidence.note_changes()

    def workers(self, options: Options) -> dict[str, list[str]]:
        """Return `qcluster` and `outbox drain --forever`."""
        clusters = {f"cluster{number}": ["-m", "django", "qcluster"] for number in range(options.clusters)}
        drain = ["-m", "django", "outbox", "drain", "--forever"]
        return clusters | {f"drain{number}": drain for number in range(options.drains)}

    def look(self) -> None:
        """Send the task that the sweep would send."""
        async_task(tasks.DRAIN, q_options={"save": False, "ack_failure": True})

    def unfinished(self) -> int:
        """Count the entries that still wait or are being sent."""
        return OutboxEntry.objects.filter(state__in=UNFINISHED).count()

    def resume(self) -> None:
        """Close the breakers, as a person does once the providers are well again."""
        outbox.resume()

    def gather(self, history: Path, providers: Providers) -> Evidence:
        """Read the entries, their attempts and recipients."""
        return evidence.gather(history, providers)


@dataclass(slots=True, kw_only=True)
class Run:
    """A run under way: the world that the faults see."""

    options: Options
    shape: Shape
    database: Database
    providers: Providers
    given: dict[str, Any]
    directory: Path
    say: Callable[[str], object]
    workers: list[Service] = field(default_factory=list)
    enqueuers: list[Service] = field(default_factory=list)
    worker_proxies: list[Proxy] = field(default_factory=list)
    enqueuer_proxies: list[Proxy] = field(default_factory=list)
    is_drained: bool = False

    def go(self) -> Evidence:
        """Do it all, and return the evidence; no process outlives it."""
        self.shape.install()
        History(Path(self.given["history"])).close()
        with ExitStack() as stack:
            stack.callback(self._kill)
            self._prepare(stack)
            self._start()
            self._break()
            self._heal()
            self._drain()
            self._see_that_all_worked()
        # Whoever was killed with a transaction open has left it to the server.
        return self.shape.gather(Path(self.given["history"]), self.providers)

    def end_connections(self) -> None:
        """End every connection to the database but our own."""
        with connection.cursor() as cursor:
            self.database.end_connections(cursor)

    def count_claims(self, worker: Service, *, younger_than: float) -> int:
        """Count the mails that this worker has claimed within so many seconds."""
        fresh = UtcNow() + timedelta(seconds=LEASE - younger_than)
        names = Worker.objects.filter(pid__in=worker.members).values("name")
        sending = OutboxEntry.objects.filter(state=State.SENDING, lease_expires_at__gt=fresh)
        return self._try(lambda: sending.filter(worker__in=names).count()) or 0

    def _prepare(self, stack: ExitStack) -> None:
        for name, arguments in self.shape.workers(self.options).items():
            self.workers.append(self._service(name, arguments, self.worker_proxies, stack))
        for number in range(self.options.enqueuers):
            name = f"enqueuer{number}"
            self.enqueuers.append(self._service(name, [], self.enqueuer_proxies, stack))

    def _service(self, name: str, arguments: list[str], proxies: list[Proxy], stack: ExitStack) -> Service:
        port = None
        if self.database.kind == "postgresql":
            settings = self.database.settings()
            proxy = stack.enter_context(Proxy(settings["HOST"], settings["PORT"]))
            proxies.append(proxy)
            port = proxy.port
        given = {**self.given, "database": self.database.settings(port=port, name=name)}
        return Service(name, arguments, given, self.directory)

    def _start(self) -> None:
        for worker in self.workers:
            worker.start()
        eventually(lambda: all(map(_is_ready, self.workers)), within=60)

    def _enqueue(self, until: float) -> None:
        """Start the enqueuers that are not there, under fresh names, for the rest of the time."""
        for enqueuer in self.enqueuers:
            left = until - time.monotonic()
            if (enqueuer.child is None or not enqueuer.child.is_running) and left > 0.5:
                name = f"{enqueuer.name}-{enqueuer.starts}"
                enqueuer.arguments = ["-m", "tests.totalqueue.workload", name, str(self.options.seed), f"{left:.1f}"]
                enqueuer.start()

    def _break(self) -> None:
        chance = random.Random(self.options.seed)
        began = time.monotonic()
        until = began + self.options.seconds
        look_at = resume_at = began
        steps = list(self.options.steps)
        while steps or time.monotonic() < until:
            now = time.monotonic()
            if steps and now >= began + steps[0].at:
                step = steps.pop(0)
                self.say(f"{now - began:5.1f} s  {step.name}")
                self._try(lambda step=step: step.act(self, chance))
                # What a step has waited for does not count, or it would swallow the time until the next.
                waited = time.monotonic() - now
                began, until = began + waited, until + waited
            self._enqueue(until)
            self._supervise()
            # Whoever is frozen may hold a lock, SQLite's only one for instance: waiting for it, nobody would thaw it.
            if not any(worker.is_frozen for worker in self.workers):
                if now >= look_at:
                    self._try(self.shape.look)
                    look_at = now + 0.5
                if now >= resume_at:
                    # A mailer that rests for half a minute would let the other faults strike at nothing.
                    self._try(self.shape.resume)
                    resume_at = now + LONGEST_REST
            time.sleep(QUIET)

    def _heal(self) -> None:
        chance = random.Random()
        self.say("healing")
        for undo in (nemesis.thaw_all, nemesis.mend, nemesis.finish_stopping, nemesis.restart_wounded):
            undo(self, chance)
        self.providers.heal()
        for enqueuer in self.enqueuers:
            enqueuer.end(30)
        self._supervise()
        self._try(self.shape.resume)

    def _drain(self) -> None:
        """Wait until nothing is left, let the workers end, and look once more."""
        end = time.monotonic() + self.options.patience
        look_at = 0.0
        while time.monotonic() < end and not self.is_drained:
            self._supervise()
            if time.monotonic() >= look_at:
                self._try(self.shape.look)
                look_at = time.monotonic() + 0.5
            self.is_drained = self._try(self.shape.unfinished) == 0
            time.sleep(QUIET)
        for worker in self.workers:
            worker.ask_to_stop()
        for worker in self.workers:
            worker.end(15)

    def _see_that_all_worked(self) -> None:
        for worker in self.workers:
            # Such a worker sends nothing, and a run of idle workers proves nothing.
            if worker.child is not None and "database of another instance" in worker.child.errors:
                raise AssertionError(f"{worker.name} takes the database for a copy:\n{worker.child.errors}")

    def _supervise(self) -> None:
        for worker in self.workers:
            if not worker.is_frozen:
                worker.keep_up()

    def _try(self, act: Callable[[], T]) -> T | None:
        """Do what the database may be away for."""
        try:
            return act()
        except Error:
            with suppress(Error):
                connection.close()
            return None

    def _kill(self) -> None:
        for service in (*self.workers, *self.enqueuers):
            service.kill()


def _is_ready(worker: Service) -> bool:
    """Tell whether a cluster takes tasks, or another worker has begun."""
    if worker.child is None or not worker.child.is_running:
        raise AssertionError(f"{worker.name} did not start:\n{worker.child.errors if worker.child else ''}")
    said = worker.child.errors
    return "] running." in said or "Draining until" in said or "working" in said
