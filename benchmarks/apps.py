"""The app that counts the SQL statements of every process that has it installed."""

import mmap
import os
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db.backends.signals import connection_created

SLOTS = 1024
"""One for each process, by its id: two that share one are not worth a lock."""
SLOT = 16


class Benchmarks(AppConfig):
    """Counts into the file that the setting BENCHMARK_STATEMENTS names: all statements, and those about the outbox."""

    name = "benchmarks"

    def ready(self) -> None:
        """Listen for connections where somebody counts."""
        path = getattr(settings, "BENCHMARK_STATEMENTS", None)
        if path is not None:
            with Path(path).open("r+b") as file:
                self._memory = mmap.mmap(file.fileno(), SLOTS * SLOT)
            connection_created.connect(self._listen)

    def _listen(self, *, connection: Any, **_: object) -> None:
        # A connection object that connects again, as after a fork, is announced again: nothing counts twice.
        if self._count not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._count)

    def _count(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
        slot = os.getpid() % SLOTS * SLOT
        self._add(slot)
        if "mail_outbox_" in sql:
            self._add(slot + SLOT // 2)
        return execute(sql, params, many, context)

    def _add(self, at: int) -> None:
        number = int.from_bytes(self._memory[at : at + 8], "little") + 1
        self._memory[at : at + 8] = number.to_bytes(8, "little")


def new_counter(path: Path) -> None:
    """Make the file that the processes count into."""
    path.write_bytes(bytes(SLOTS * SLOT))


def read_counter(path: Path) -> tuple[int, int]:
    """Return how many statements there were, and how many of them were about the outbox."""
    content = path.read_bytes()
    numbers = [int.from_bytes(content[at : at + 8], "little") for at in range(0, len(content), 8)]
    return sum(numbers[::2]), sum(numbers[1::2])
