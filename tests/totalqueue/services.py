"""The processes of a run, looked after as a supervisor does."""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from tests.journey.processes import Child
from tests.totalqueue import HANDED_OVER


class Service:
    """One supervised process with its children: started again when it has ended, unless it was told to stay down."""

    def __init__(self, name: str, arguments: list[str], given: dict[str, Any], directory: Path) -> None:
        self.name = name
        self.arguments = arguments
        self.starts = 0
        self._given, self._directory = given, directory
        self.is_frozen = self.is_stopping = self.is_wounded = False
        self.child: Child | None = None

    def start(self) -> None:
        """Start it; what it says is kept beside what its predecessors said."""
        environment = {
            **os.environ,
            HANDED_OVER: json.dumps(self._given),
            "DJANGO_SETTINGS_MODULE": "tests.totalqueue.settings",
            "NO_PROXY": "127.0.0.1",
            "PYTHONUNBUFFERED": "1",
        }
        self.starts += 1
        self.is_frozen = self.is_stopping = self.is_wounded = False
        log = self._directory / f"{self.name}-{self.starts}.log"
        self.child = Child(self.arguments, environment=environment, log=log)

    def keep_up(self) -> None:
        """Start it again if it has ended."""
        if self.child is None or not self.child.is_running:
            if self.child is not None:
                self.child.kill()  # what it forked may live on
            self.start()

    @property
    def members(self) -> list[int]:
        """List the process ids of it and of all that it forked."""
        return [] if self.child is None else self.child.members

    def kill(self) -> None:
        """End it all at once."""
        if self.child is not None:
            self.child.kill()
        self.is_frozen = False

    def signal_all(self, number: int) -> None:
        """Signal all of it."""
        if self.child is not None:
            self.child.signal_all(number)

    def freeze(self) -> None:
        """Stop all of it where it stands."""
        self.is_frozen = True
        self.signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.is_frozen = False
        self.signal_all(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the main process, as a supervisor does."""
        if self.child is not None and self.child.is_running:
            self.child.terminate()

    def ask_all_to_stop(self) -> None:
        """Send SIGTERM to every process of it."""
        self.is_stopping = True
        self.signal_all(signal.SIGTERM)

    def end(self, within: float) -> bool:
        """Wait for its end, kill what is left after so many seconds, and tell whether it ended by itself."""
        if self.child is None:
            return True
        until = time.monotonic() + within
        while self.child.is_running and time.monotonic() < until:
            time.sleep(0.02)
        has_ended = not self.child.is_running
        self.child.kill()
        return has_ended

    def kill_one(self, chance: random.Random) -> None:
        """Kill one of its processes that is not the main one, if it has any."""
        main = self.child.pid if self.child else 0
        others = [pid for pid in self.members if pid != main]
        if others:
            self.is_wounded = True
            os.kill(chance.choice(sorted(others)), signal.SIGKILL)
