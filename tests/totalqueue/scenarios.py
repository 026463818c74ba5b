"""For each build broken on purpose, the faults that bring its flaw to light surely, and which invariant they break."""

import random
from dataclasses import dataclass
from functools import partial

from tests.journey.processes import eventually
from tests.totalqueue import LEASE, nemesis
from tests.totalqueue.nemesis import Step, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What happens, over how many seconds, how long healing is waited for, and the invariants of which one must break.

    `on_ambiguous` is what all mails ask for, where the flaw shows in mails of one policy only.
    """

    steps: tuple[Step, ...] = ()
    seconds: float = 4.0
    patience: float = 60.0
    manners: str = "perfect"
    on_ambiguous: str = "mixed"
    breaks: frozenset[str]


def wait_for_mails(world: World, count: int) -> None:
    """Wait until the providers have been given so many mails more: the workers are in the middle of it."""
    enough = world.providers.asked + count
    eventually(lambda: world.providers.asked >= enough, within=30)


def kill_while_sending(world: World, chance: random.Random) -> None:
    """Kill all that sends, while it sends."""
    wait_for_mails(world, 4)
    nemesis.kill_everything(world, chance)


def wait_until_first_sends(world: World) -> None:
    """Wait until the first worker is in the middle of some mails: it has just claimed them, and the providers are slow."""
    eventually(lambda: world.count_claims(world.workers[0], younger_than=JUST) >= IN_FLIGHT, within=30, every=0.02)


def freeze_first(world: World, _: random.Random) -> None:
    """Stop the first worker where it stands."""
    wait_until_first_sends(world)
    world.workers[0].freeze()


def cut_off_first(world: World, _: random.Random) -> None:
    """Take the first worker's way to the database."""
    wait_until_first_sends(world)
    world.worker_proxies[0].cut()


JUST = 0.4
"""Seconds within which a claim is so fresh that its mail is still with a slow provider."""
IN_FLIGHT = 3
SLOW = partial(nemesis.behave, "perfect", latency=1.0)
KILLS = (
    Step(0.5, "stuck", partial(nemesis.behave, "stuck")),
    Step(1.5, "kill everything", kill_while_sending),
    Step(3.5, "kill everything", kill_while_sending),
    Step(3.6, "well", nemesis.behave_again),
)

SCENARIOS: dict[str, Scenario] = {
    "no_claim_id": Scenario(
        steps=(
            Step(1.0, "slow", SLOW),
            Step(2.5, "freeze", freeze_first),
            Step(2.6, "fast", nemesis.behave_again),
            # Longer than the lease, and not so long that its senders are given up as stuck.
            Step(2.5 + LEASE + 1.5, "thaw", nemesis.thaw_all),
        ),
        seconds=3 + LEASE + 1.5,
        on_ambiguous="retry",  # another worker must have sent it meanwhile
        breaks=frozenset({"forbidden", "unexplained", "forgotten"}),
    ),
    "settled_before_sent": Scenario(steps=KILLS, seconds=5, breaks=frozenset({"lost", "unfounded"})),
    "no_rescue": Scenario(steps=KILLS, seconds=5, patience=10, breaks=frozenset({"unfinished"})),
    "no_mark": Scenario(steps=(Step(0.5, "slow", SLOW),), breaks=frozenset({"unexplained", "overtried"})),
    "lost_success": Scenario(
        steps=(
            Step(1.0, "slow", SLOW),
            Step(2.5, "cut", cut_off_first),
            Step(2.6, "fast", nemesis.behave_again),
            Step(2.5 + 2 * LEASE, "mend", nemesis.mend),
        ),
        seconds=3 + 2 * LEASE,
        on_ambiguous="hold",  # what is sent again would be there again, too
        breaks=frozenset({"forgotten"}),
    ),
    "fresh_message_id": Scenario(
        steps=(Step(1.0, "mails", lambda world, _: wait_for_mails(world, 20)),),
        seconds=8,
        manners="losing answers",
        breaks=frozenset({"different"}),
    ),
    "no_transaction": Scenario(breaks=frozenset({"unexpected"})),
}
