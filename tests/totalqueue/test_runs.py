"""The check against the real thing, and against builds that are broken on purpose."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.journey.processes import ROOT
from tests.totalqueue.databases import postgresql_programs
from tests.totalqueue.sabotage import SABOTAGES
from tests.totalqueue.scenarios import SCENARIOS

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs an operating system that forks"),
]
PATIENCE = 240.0
DATABASE = os.environ.get("MAIL_OUTBOX_TEST_DB", "sqlite")


def run(directory: Path, *arguments: str, database: str = DATABASE) -> dict[str, Any]:
    """Run the check as a person does, and return what it tells."""
    command = [sys.executable, "-m", "tests.totalqueue", "--json", "--database", database, "--keep", str(directory)]
    with (directory / "run.err").open("w") as errors:
        child = subprocess.Popen([*command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
        # It cleans up when it is told to go, and not when it is killed.
        told_to_go = threading.Timer(PATIENCE, child.terminate)
        told_to_go.start()
        output, _ = child.communicate()
        told_to_go.cancel()
    # Shown where the test fails: what the run said, and the last words of its processes.
    for log in sorted(directory.glob("*.err")):
        sys.stdout.write(f"--- {log.stem}\n{log.read_text()[-3000:]}\n")
    assert output, (directory / "run.err").read_text()[-3000:]
    return dict(json.loads(output))


def test_nothing_is_lost_unexpected_or_doubled_without_a_reason_whatever_breaks(tmp_path: Path):
    told = run(tmp_path, "--seed", "1", "--seconds", "14", "--each")

    assert told["broken"] == {}
    assert told["lost_commits"] > 0 or DATABASE != "postgresql"
    assert told["committed"] >= 50
    assert told["ambiguous"], "nothing was in flight when things broke"


def test_under_hold_nobody_gets_a_second_copy_whatever_breaks(tmp_path: Path):
    told = run(tmp_path, "--seed", "2", "--seconds", "6", "--on-ambiguous", "hold")

    assert told["broken"] == {}
    assert (told["duplicates"], told["held"] > 0) == (0, True)


only_once = pytest.mark.skipif(
    DATABASE != "postgresql" or postgresql_programs() is None,
    reason="once is enough to prove the checker: with PostgreSQL, where its programs are installed",
)


SCENARIO_RUNS = {
    **{f"{name}, broken": ("--sabotage", name) for name in SCENARIOS},
    **{f"{name}, whole": ("--scenario", name) for name in ("no_claim_id", "lost_success")},
}
AT_ONCE = 4
TAKES = 3
"""How often a broken build is tried: the faults strike real processes, on a busy machine not always in the right moment."""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[dict[str, Any]]]:
    """Run every scenario, a few at the same time, because most of their time is waiting."""

    directory = tmp_path_factory.mktemp("scenarios")  # not in the threads: the factory is not made for several

    def judge(name: str) -> dict[str, Any]:
        option, scenario = SCENARIO_RUNS[name]
        for seed in range(1, TAKES + 1 if option == "--sabotage" else 2):
            take = directory / f"{name} {seed}"
            take.mkdir()
            told = run(take, "--seed", str(seed), option, scenario)
            if told["broken"].keys() & SCENARIOS[scenario].breaks:
                break
        return told

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {name: pool.submit(judge, name) for name in SCENARIO_RUNS}


def test_every_broken_build_has_a_scenario_that_shows_its_flaw():
    assert SCENARIOS.keys() == SABOTAGES.keys()


@only_once
@pytest.mark.parametrize("sabotage", SCENARIOS)
def test_a_build_broken_on_purpose_is_caught(verdicts: dict[str, Future[dict[str, Any]]], sabotage: str):
    told = verdicts[f"{sabotage}, broken"].result()

    assert told["broken"].keys() & SCENARIOS[sabotage].breaks, told


@only_once
@pytest.mark.parametrize("sabotage", ["no_claim_id", "lost_success"])
def test_the_faults_that_show_a_broken_build_do_not_trouble_a_whole_one(
    verdicts: dict[str, Future[dict[str, Any]]], sabotage: str
):
    told = verdicts[f"{sabotage}, whole"].result()

    assert told["broken"] == {}
