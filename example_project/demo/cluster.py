"""A real `manage.py qcluster` as a child, stopped the way a supervisor has to stop it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from django.core.management.base import CommandError

from example_project.demo.interruption import Interruption

MANAGE = Path(__file__).resolve().parent.parent.parent / "manage.py"
KILLED_WITHIN = 5.0
"""Seconds that killed processes have to disappear."""


class Cluster:
    """The cluster's main process, in a session of its own so that Ctrl-C in the terminal reaches the demo only."""

    def __init__(self, log: Path, *, environment: Mapping[str, str], inherited: Sequence[int]) -> None:
        self._log = log
        self._output: BinaryIO = log.open("ab")
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(MANAGE), "qcluster"],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
            pass_fds=inherited,
        )

    @property
    def pid(self) -> int:
        """Return the id of the main process, and of its group."""
        return self._process.pid

    def check(self) -> None:
        """Raise CommandError if the cluster has ended by itself."""
        if (code := self._process.poll()) is not None:
            raise CommandError(f"The cluster has ended with exit code {code}; its last words are in {self._log}")

    def stop(self, *, patience: float, interruption: Interruption) -> bool:
        """Stop the cluster, and tell whether it went by itself; what is left then, or at one more Ctrl-C, is killed."""
        # Never to the group: workers cut off by SIGTERM leave the main process waiting for ever.
        self._signal_main()
        until = time.monotonic() + patience
        while self._process.poll() is None and time.monotonic() < until and not interruption.wait(0.05):
            pass
        went_by_itself = self._process.poll() is not None and not self._is_group_there()
        self._kill_group(interruption)
        self._output.close()
        return went_by_itself

    def _signal_main(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()

    def _kill_group(self, interruption: Interruption) -> None:
        until = time.monotonic() + KILLED_WITHIN
        while self._is_group_there() and time.monotonic() < until:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.poll()
            interruption.wait(0.02)
        self._process.wait(KILLED_WITHIN)

    def _is_group_there(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True
