"""Other shapes of a mail queue, as published packages have them, under the same workload, faults and checker.

Run as `python -m tests.totalqueue.peers SHAPE`. Each is reduced to the one thing that is compared: when it writes down
what has gone out. Neither knows of ambiguous attempts, so nothing explains a second copy.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.db import connection, connections, transaction

from mail_outbox.core.states import State
from tests.totalqueue.checker import Evidence, Row, fates_of
from tests.totalqueue.history import read

if TYPE_CHECKING:
    from tests.totalqueue.providers import Providers
    from tests.totalqueue.run import Options
    from tests.totalqueue.workload import Mail

TABLE = "totalqueue_peer"
BATCH, THREADS = 100, 5
"""What post_office takes at once, and with how many threads, where nobody says otherwise."""
REST = 0.2


def install() -> None:
    """Make the table of waiting mail."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {TABLE} (id bigserial PRIMARY KEY, name text, mailer text, recipients text, "
            "due_at timestamptz, state text NOT NULL DEFAULT 'queued')"
        )


def enqueue(mail: "Mail") -> None:
    """Write the mail in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} (name, mailer, recipients, due_at) "  # noqa: S608 (our own name, as below)
            "VALUES (%s, %s, %s, clock_timestamp() + make_interval(secs => %s))",
            [mail.key, mail.using, json.dumps(mail.recipients), mail.delay],
        )


def waiting(limit: int, *, lock: bool = False) -> list[tuple[int, str, str, str]]:
    """Read what is due, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id, name, mailer, recipients FROM {TABLE} WHERE state = 'queued' AND due_at <= clock_timestamp() "  # noqa: S608
            f"ORDER BY id LIMIT {limit} {'FOR UPDATE SKIP LOCKED' if lock else ''}"
        )
        return list(cursor.fetchall())


def write_sent(keys: list[int]) -> None:
    """Write down what has gone out."""
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {TABLE} SET state = 'sent' WHERE id = ANY(%s)", [keys])  # noqa: S608


class Sender(threading.local):
    """A thread's own connections to the mailers."""

    def __init__(self) -> None:
        self.backends: dict[str, Any] = {}

    def send(self, row: tuple[int, str, str, str]) -> int | None:
        """Send the mail, and return its key if that went well."""
        from mail_outbox.delivery.mailers import make_backend
        from tests.totalqueue.workload import Mail, a_message

        key, name, mailer, recipients = row
        try:
            backend = self.backends.setdefault(mailer, make_backend(mailer))
            sent = backend.send_messages([a_message(Mail(key=name, recipients=tuple(json.loads(recipients))))])
        except Exception:  # noqa: BLE001 (whatever it is: the mail stays in the queue)
            broken = self.backends.pop(mailer, None)
            with contextlib.suppress(Exception):
                broken.close()
            return None
        return key if sent else None


def send_in_batches() -> bool:
    """Send a batch with a few threads, and write down at its end what has gone out; tell whether there was any."""
    rows = waiting(BATCH)
    sent = [key for key in POOL.map(SENDER.send, rows) if key is not None]
    write_sent(sent)
    return bool(sent)


def send_under_lock() -> bool:
    """Send one mail while its row is locked, and write that down in the same transaction; tell whether there was one."""
    with transaction.atomic():
        rows = waiting(1, lock=True)
        sent = [key for key in map(SENDER.send, rows) if key is not None]
        write_sent(sent)
    return bool(sent)


SENDER, POOL = Sender(), ThreadPoolExecutor(THREADS)


def work(send: Callable[[], bool]) -> None:
    """Send for ever; trouble with the database is waited out."""
    while True:
        try:
            found = send()
        except Exception:  # noqa: BLE001 (as above)
            connections.close_all()
            found = False
        if not found:
            time.sleep(REST)


class Peer:
    """What the shapes share."""

    name = ""
    processes = 1

    def install(self) -> None:
        """Make the table."""
        install()

    def workers(self, options: "Options") -> dict[str, list[str]]:
        """Return the commands of its workers by name."""
        command = ["-m", "tests.totalqueue.peers", self.name]
        return {f"{self.name}{number}": command for number in range(self.processes)}

    def look(self) -> None:
        """Do nothing: its workers look by themselves."""

    def resume(self) -> None:
        """Do nothing: it has no breakers."""

    def unfinished(self) -> int:
        """Count what still waits."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {TABLE} WHERE state = 'queued'")  # noqa: S608
            return int(cursor.fetchone()[0])

    def gather(self, history: Path, providers: "Providers") -> Evidence:
        """Read the table."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT name, state FROM {TABLE}")  # noqa: S608
            rows = [Row(key=name, state=State(state)) for name, state in cursor.fetchall()]
        return Evidence(fates=fates_of(read(history)), accepts=list(providers.accepts()), rows=rows)


class Batch(Peer):
    """A batch is marked when all of it has gone out, by one process at a time, as post_office does."""

    name = "batch"


class RowLock(Peer):
    """A row is locked while it is sent, as django-mailer does; several processes pass each other by."""

    name = "row_lock"
    processes = 6


SHAPES: dict[str, type[Peer]] = {"batch": Batch, "row_lock": RowLock}
STEPS: dict[str, Callable[[], bool]] = {"batch": send_in_batches, "row_lock": send_under_lock}


if __name__ == "__main__":
    django.setup()
    sys.stderr.write("working\n")
    sys.stderr.flush()
    work(STEPS[sys.argv[1]])
