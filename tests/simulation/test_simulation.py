"""Whatever the order of things, and whatever breaks in between, the promises hold; a failing seed is named and repeats."""

import os
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from mail_outbox import transitions
from tests.simulation.simulate import MAILERS, SEED, configured, simulate

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

DATABASE = os.environ.get("MAIL_OUTBOX_TEST_DB", "sqlite")
USUAL = {
    "scheduled > queued",
    "queued > sending",
    "sending > sent",
    "sending > scheduled",
    "sending > queued",
    "sending > held",
}
BY_HAND = {"queued > cancelled", "queued > held", "scheduled > held", "held > queued", "held > sent"}
SEEDS = int(os.environ.get("MAIL_OUTBOX_SIM_SEEDS", "80" if DATABASE == "sqlite" else "30"))


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    with configured(*MAILERS):
        yield


def seeds() -> list[int]:
    """List the seeds to run: the one that is asked for, or the first so many."""
    asked = os.environ.get(SEED)
    return list(range(1, SEEDS + 1)) if asked is None else [int(asked)]


def test_no_order_of_things_and_no_fault_in_between_breaks_a_promise():
    changes: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for seed in seeds():
        world = simulate(seed)
        changes += world.watch.changes
        faults += world.faults
        if len(seeds()) == 1:
            sys.stdout.write("\n".join(["", *world.trace, ""]))

    # What never happens is never tested.
    if len(seeds()) >= 30:
        assert faults.keys() >= {"kill", "freeze", "COMMIT refused", "COMMIT answer lost"}
        assert changes.keys() >= USUAL
        assert changes.keys() & BY_HAND


def test_a_seed_repeats_to_the_letter():
    assert simulate(7).trace == simulate(7).trace


def test_what_breaks_names_its_seed_and_how_to_repeat_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transitions, "rescue", lambda **_: [])

    with pytest.raises(AssertionError) as broken:
        for seed in range(1, 30):
            simulate(seed)

    [note] = broken.value.__notes__
    assert f"{SEED}={seed} pytest -s tests/simulation/test_simulation.py" in note
    assert "BROKEN" in note.splitlines()[-1]
