"""One demo per database: the second one says who is there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from django.core.management.base import CommandError


@contextmanager
def alone_on(database: Path) -> Iterator[TextIO]:
    """Hold the database's lock, as a file that children inherit: it is free when the last of them has gone.

    Raises CommandError where somebody else holds it.
    """
    import fcntl  # not there on Windows, where the demo says so before it comes here

    with database.with_name(f"{database.name}-demo.lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise CommandError(
                f"A demo is at work on {database} already: {lock.read().strip() or 'it has just started'}.\n"
                "Stop it first, or give this one a database and a port of its own:\n"
                "    EXAMPLE_DATABASE=other.sqlite3 python manage.py demo --port 8001"
            ) from error
        lock.truncate(0)
        note(lock, f"process {os.getpid()}")
        yield lock


def note(lock: TextIO, text: str) -> None:
    """Write into the lock who holds it, for whoever finds it held."""
    lock.write(text)
    lock.flush()
