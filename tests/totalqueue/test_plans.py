"""What a seed stands for: the same faults and the same transactions, each time."""

import random
from collections import Counter
from pathlib import Path

from tests.totalqueue.databases import SQLite
from tests.totalqueue.nemesis import FAULTS, a_parade, a_plan, possible
from tests.totalqueue.workload import WAYS, an_order


def test_the_same_seed_breaks_the_same_things_at_the_same_moments():
    names = list(FAULTS)

    assert a_plan(7, 20, names) == a_plan(7, 20, names)
    assert a_plan(7, 20, names) != a_plan(8, 20, names)


def test_every_fault_has_its_turn_and_everything_that_needs_healing_is_healed_in_time():
    plans = [a_plan(seed, 20, list(FAULTS)) for seed in range(40)]
    steps = [step for plan in plans for step in plan]
    counts = Counter(step.name for step in steps)

    assert {name for name in counts if not name.startswith("heal: ")} == FAULTS.keys()
    assert all(counts[name] == counts[name.removeprefix("heal: ")] for name in counts if name.startswith("heal: "))
    assert max(step.at for step in steps) <= 20
    assert all(plan == sorted(plan) for plan in plans)


def test_a_parade_has_every_fault_once():
    names = list(FAULTS)
    steps = [step.name for step in a_parade(7, 14, names) if not step.name.startswith("heal: ")]

    assert sorted(steps) == sorted(names)
    assert steps != [step.name for step in a_parade(8, 14, names) if not step.name.startswith("heal: ")]


def test_what_a_database_cannot_suffer_is_not_drawn(tmp_path: Path):
    names = possible(SQLite(tmp_path))

    assert "kill a cluster" in names
    assert not {"crash the database", "end connections", "cut off a worker"} & set(names)


def test_transactions_are_drawn_with_rollbacks_savepoints_and_policies():
    orders = [an_order(f"order-{number}", random.Random(number), ways=WAYS) for number in range(1000)]

    assert 60 <= sum(order.is_rolled_back for order in orders) <= 140
    assert 240 <= sum(order.inner is not None for order in orders) <= 360
    assert {order.mail.using for order in orders} == set(WAYS)
    assert {order.mail.on_ambiguous for order in orders} == {"retry", "hold"}
    assert an_order("a", random.Random(1), ways=WAYS) == an_order("a", random.Random(1), ways=WAYS)
