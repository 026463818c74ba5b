"""A clock that moves only when it is told to: the database's, and the monotonic one of the workers."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

from mail_outbox.drain import fitness, reading, settler, single, warmth, work
from mail_outbox.models import UtcNow
from mail_outbox.outbox import delivering, suppressing
from mail_outbox.transitions import enqueueing, tables

# Never a whole second, which SQLite would write without a fraction, and then compare as text.
START = datetime(2030, 1, 1, 12, 0, 0, 456, tzinfo=UTC)
LITERALS = {"sqlite": "'{}'", "postgresql": "'{}+00'::timestamptz", "mysql": "CAST('{}' AS DATETIME(6))"}
LOOKERS = (delivering, fitness, reading, settler, single, suppressing, warmth, work)
"""The modules that a simulated worker or caller runs through and that look at the monotonic clock."""


class Clock:
    """The one time that there is."""

    def __init__(self) -> None:
        self.passed = timedelta(0)

    def advance(self, by: timedelta) -> None:
        """Let so much time pass."""
        self.passed += by

    def now(self) -> datetime:
        """Return the database's time."""
        return START + self.passed

    def monotonic(self) -> float:
        """Return the same as a worker counts it."""
        return 1000.0 + self.passed.total_seconds()


@contextmanager
def running(clock: Clock) -> Iterator[None]:
    """Let the database and the workers go by this clock."""

    def literal(self: UtcNow, compiler: Any, connection: Any, **context: Any) -> tuple[str, list[Any]]:
        return LITERALS[connection.vendor].format(clock.now().strftime("%Y-%m-%d %H:%M:%S.%f")), []

    with ExitStack() as patches:
        for vendor in LITERALS:
            patches.enter_context(mock.patch.object(UtcNow, f"as_{vendor}", literal, create=True))
        # The clock's expression is compiled once for all INSERTs; here it stands for another moment every time.
        patches.enter_context(mock.patch.dict(tables._tables, clear=True))
        patches.enter_context(mock.patch.object(enqueueing, "NOW", UtcNow()))
        for module in LOOKERS:
            patches.enter_context(mock.patch.object(module, "time", SimpleNamespace(monotonic=clock.monotonic)))
        yield
