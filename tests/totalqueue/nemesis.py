"""The faults of a run: each a small function that breaks something, and one that heals it; a seed says which and when."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from tests.totalqueue import LEASE
from tests.totalqueue.databases import Database
from tests.totalqueue.providers import Providers
from tests.totalqueue.proxy import Proxy
from tests.totalqueue.services import Service


class World(Protocol):
    """What a fault may lay hands on."""

    database: Database
    providers: Providers
    workers: list[Service]
    enqueuers: list[Service]
    worker_proxies: list[Proxy]
    enqueuer_proxies: list[Proxy]

    def end_connections(self) -> None:
        """End every connection to the database but that of the run itself."""

    def count_claims(self, worker: Service, *, younger_than: float) -> int:
        """Count the mails that this worker has claimed within so many seconds."""


Act = Callable[[World, random.Random], Any]


def _nothing(_: World, __: random.Random) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done, how it is undone so many seconds later, and what it needs of the database."""

    do: Act
    undo: Act = _nothing
    seconds: tuple[float, float] = (0.0, 0.0)
    needs: str = ""
    weight: int = 1


def kill_worker(world: World, chance: random.Random) -> None:
    """Kill one process of a cluster; who holds the lock of its queue leaves all the others deaf."""
    chance.choice(world.workers).kill_one(chance)


def restart_wounded(world: World, _: random.Random) -> None:
    """Replace the clusters that have lost a process, as django-q2 cannot always do itself."""
    for worker in world.workers:
        if worker.is_wounded:
            worker.kill()


def kill_service(world: World, chance: random.Random) -> None:
    """Kill a cluster or a drain, with all that it forked; its supervisor starts it again."""
    chance.choice(world.workers).kill()


def kill_everything(world: World, _: random.Random) -> None:
    """Kill all that sends, as a power cut does."""
    for worker in world.workers:
        worker.kill()


def kill_enqueuer(world: World, chance: random.Random) -> None:
    """Kill an application process."""
    chance.choice(world.enqueuers).kill()


def terminate_group(world: World, chance: random.Random) -> None:
    """Send SIGTERM to every process of a cluster at once, as some supervisors do."""
    chance.choice(world.workers).ask_all_to_stop()


def finish_stopping(world: World, _: random.Random) -> None:
    """Kill what has not ended since it was asked to, as a supervisor does in the end."""
    for worker in world.workers:
        if worker.is_stopping:
            worker.kill()


def freeze_one(world: World, chance: random.Random) -> None:
    """Stop a cluster or a drain where it stands."""
    chance.choice([worker for worker in world.workers if not worker.is_frozen] or world.workers).freeze()


def thaw_all(world: World, _: random.Random) -> None:
    """Let everything go on."""
    for worker in world.workers:
        if worker.is_frozen:
            worker.thaw()


def behave(manners: str, world: World, _: random.Random, *, latency: float | None = None) -> None:
    """Let the providers misbehave."""
    world.providers.behave(manners, latency=latency)


def behave_again(world: World, _: random.Random) -> None:
    """Let the providers be as they usually are."""
    world.providers.behave()


def end_connections(world: World, _: random.Random) -> None:
    """End every connection to the database."""
    world.end_connections()


def restart_database(mode: str, world: World, _: random.Random) -> None:
    """Restart the server."""
    world.database.restart(mode)


def lose(what: str, whose: str, world: World, chance: random.Random) -> None:
    """Lose the next few COMMITs, or the answers to them."""
    proxies: list[Proxy] = getattr(world, f"{whose}_proxies")
    getattr(chance.choice(proxies), f"lose_{what}")(chance.randint(1, 4))


def cut_off(world: World, chance: random.Random) -> None:
    """Take a worker's way to the database, not its way to the providers."""
    chance.choice(world.worker_proxies).cut()


def mend(world: World, _: random.Random) -> None:
    """Let everything through again."""
    for proxy in (*world.worker_proxies, *world.enqueuer_proxies):
        proxy.mend()


PROXY, CONNECTIONS, RESTART = "proxy", "connections", "restart"

FAULTS: dict[str, Fault] = {
    "kill a worker": Fault(kill_worker, restart_wounded, (1, 3), weight=2),
    "kill a cluster": Fault(kill_service, weight=3),
    "kill all clusters": Fault(kill_everything),
    "kill an enqueuer": Fault(kill_enqueuer),
    "SIGTERM a group": Fault(terminate_group, finish_stopping, (4, 6), weight=2),
    "freeze within the lease": Fault(freeze_one, thaw_all, (0.5, LEASE - 1)),
    "freeze past the lease": Fault(freeze_one, thaw_all, (LEASE + 0.5, LEASE + 3), weight=3),
    "end connections": Fault(end_connections, needs=CONNECTIONS, weight=3),
    "restart the database": Fault(partial(restart_database, "fast"), needs=RESTART),
    "crash the database": Fault(partial(restart_database, "immediate"), needs=RESTART),
    "lose answers to workers": Fault(partial(lose, "answers", "worker"), mend, (1, 3), PROXY, 2),
    "lose answers to enqueuers": Fault(partial(lose, "answers", "enqueuer"), mend, (1, 3), PROXY, 2),
    "lose commits of workers": Fault(partial(lose, "commits", "worker"), mend, (1, 3), PROXY),
    "cut off a worker": Fault(cut_off, mend, (LEASE + 0.5, 2 * LEASE), PROXY, 2),
    "lose commits of enqueuers": Fault(partial(lose, "commits", "enqueuer"), mend, (1, 3), PROXY),
    "provider refuses": Fault(partial(behave, "refusing"), behave_again, (0.5, 2)),
    "provider loses answers": Fault(partial(behave, "losing answers"), behave_again, (0.5, 2), weight=2),
    "provider hangs": Fault(partial(behave, "hanging"), behave_again, (0.5, 2)),
    "provider throttles": Fault(partial(behave, "throttling"), behave_again, (0.3, 1)),
    "provider drops": Fault(partial(behave, "dropping"), behave_again, (0.5, 2)),
    "provider is slow": Fault(partial(behave, "steady", latency=0.7), behave_again, (1, 3), weight=2),
}


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """What is done at which second of the run."""

    at: float
    name: str
    act: Act = field(compare=False)


def possible(database: Database) -> list[str]:
    """List the faults that this database can suffer."""
    has = {
        "": True,
        CONNECTIONS: database.can_end_connections,
        RESTART: database.can_restart,
        PROXY: database.kind == "postgresql",
    }
    return [name for name, fault in FAULTS.items() if has[fault.needs]]


def a_plan(seed: int, seconds: float, names: list[str], *, every: float = 1.0) -> list[Step]:
    """Draw the faults of a run: one every so many seconds, about, each healed by itself before the end."""
    chance = random.Random(seed)
    steps: list[Step] = []
    at = chance.uniform(0.5, 1 + every)
    while at < seconds:
        name = chance.choices(names, [FAULTS[each].weight for each in names])[0]
        steps += _steps(name, at, seconds, chance)
        at += chance.uniform(0.2, 2 * every)
    return sorted(steps)


def a_parade(seed: int, seconds: float, names: list[str]) -> list[Step]:
    """Draw an order in which every fault has its turn once, spread over the time."""
    chance = random.Random(seed)
    steps: list[Step] = []
    for number, name in enumerate(chance.sample(names, len(names))):
        steps += _steps(name, 1 + (seconds - 1) * number / len(names), seconds, chance)
    return sorted(steps)


def _steps(name: str, at: float, end: float, chance: random.Random) -> list[Step]:
    """Return the fault, and its healing."""
    fault = FAULTS[name]
    healed = Step(min(at + chance.uniform(*fault.seconds), end), f"heal: {name}", fault.undo)
    return [Step(at, name, fault.do), *([] if fault.undo is _nothing else [healed])]
