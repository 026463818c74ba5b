"""A run by its seed: in the settings that runs need, and told in full where it fails."""

import logging
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from unittest import mock

from mail_outbox.drain import rerouting, settler, single
from mail_outbox.outbox import sweeping
from tests.simulation.clock import Clock, running
from tests.simulation.world import Broken, World, empty
from tests.support import mailers

LUCKY: tuple[ModuleType, ...] = (settler, rerouting, single, sweeping)
"""The modules that draw lots."""
MAILERS = ("default", "spare", "esp")
LOCMEM = {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}
SEED = "MAIL_OUTBOX_SIM_SEED"
"""The environment variable with the one seed to run, and to tell in full."""
TOLD = 400
"""How many lines of its trace a run that breaks a promise shows, the last ones."""


@contextmanager
def configured(*names: str) -> Iterator[None]:
    """Configure mailers of these names with few senders each, and a route over two of them."""
    options = {name: {"concurrency": 3} for name in names}
    routes = {"main": ["default", "spare"]}
    with mailers(dict.fromkeys(names, LOCMEM), ROUTES=routes, MAILER_OPTIONS=options, WAKE=False):
        logging.disable()  # thousands of warnings, all of them provoked
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def simulate(seed: int) -> World:
    """Run the seed to its end, and return the world; what breaks says which seed it was, how to repeat it, and how it came."""
    empty()
    clock = Clock()
    luck = random.Random(f"luck of {seed}").random
    with ExitStack() as patches:
        patches.enter_context(running(clock))
        for module in LUCKY:
            patches.enter_context(mock.patch.object(module, "luck", luck))
        world = World(seed, clock)
        try:
            world.run()
        except Exception as error:
            repeat = f"{SEED}={seed} pytest -s tests/simulation/test_simulation.py"
            error.add_note("\n".join([f"Seed {seed}; to repeat it:", f"    {repeat}", "", *world.trace[-TOLD:]]))
            raise
    return world


def broken_seed(seeds: range) -> int | None:
    """Return the first seed whose run breaks a promise, or None."""
    for seed in seeds:
        try:
            simulate(seed)
        except Broken:
            return seed
    return None
