"""From the command line to a verdict: which shape, which faults, which manners."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from tests.totalqueue.checker import check
from tests.totalqueue.databases import Database
from tests.totalqueue.nemesis import FAULTS, Step, a_parade, a_plan, possible
from tests.totalqueue.peers import SHAPES
from tests.totalqueue.providers import Providers
from tests.totalqueue.run import PATIENCE, Options, Outbox, Run, Shape
from tests.totalqueue.scenarios import SCENARIOS, Scenario

SECONDS = 20.0
WORKERS = {"sqlite": (1, 1), "postgresql": (2, 1), "mariadb": (2, 1)}
"""How many clusters and drains each database is given."""


def run(options: argparse.Namespace, base: Database, directory: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Run once, and return what is to be told of it."""
    began = time.monotonic()
    shape: Shape = Outbox() if options.shape == "outbox" else SHAPES[options.shape]()
    scenario = SCENARIOS.get(options.scenario or options.sabotage)
    manners = scenario.manners if scenario else options.manners
    if scenario:
        given = {**given, "on_ambiguous": scenario.on_ambiguous}
    with Providers(options.seed, usual=manners, latency=options.latency) as providers:
        mailers = providers.mailers()
        run = Run(
            options=_options(options, base, scenario),
            shape=shape,
            database=base,
            providers=providers,
            given={**given, "sabotage": options.sabotage, "mailers": mailers},
            directory=directory,
            say=lambda text: sys.stderr.write(f"{text}\n"),
        )
        evidence = run.go()
    verdict = check(evidence)
    return {
        "seed": options.seed,
        "database": base.kind,
        "shape": options.shape,
        "on_ambiguous": given["on_ambiguous"],
        "faults": sum(not step.name.startswith("heal") for step in run.options.steps),
        "lost_commits": sum(proxy.lost for proxy in (*run.worker_proxies, *run.enqueuer_proxies)),
        **verdict.counts,
        "broken": {name: list(keys) for name, keys in verdict.broken.items()},
        "seconds": round(time.monotonic() - began, 1),
    }


def _options(options: argparse.Namespace, base: Database, scenario: Scenario | None) -> Options:
    clusters, drains = (0, 2) if scenario else WORKERS[base.kind]
    seconds = options.seconds or (scenario.seconds if scenario else SECONDS)
    return Options(
        seed=options.seed,
        seconds=seconds,
        steps=scenario.steps if scenario else tuple(_steps(options, base, seconds)),
        clusters=clusters if options.clusters is None else options.clusters,
        drains=drains if options.drains is None else options.drains,
        enqueuers=options.enqueuers,
        patience=scenario.patience if scenario else PATIENCE,
    )


def _steps(options: argparse.Namespace, base: Database, seconds: float) -> list[Step]:
    names = possible(base)
    if options.faults is not None:
        names = [name.strip() for name in options.faults.split(",") if name.strip()]
        for name in names:
            if name not in FAULTS:
                raise SystemExit(f"No fault '{name}'. Known: {', '.join(FAULTS)}.")
    if options.each:
        return a_parade(options.seed, seconds, names)
    return a_plan(options.seed, seconds, names, every=options.every) if names else []
