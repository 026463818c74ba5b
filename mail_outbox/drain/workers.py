"""Worker processes as rows, for people and monitors, and the places for drains that may run at once."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from uuid import uuid4

from django.db import DatabaseError, connections, transaction

from mail_outbox.models import UtcNow, Wake, Worker
from mail_outbox.transitions import DATABASE_AWAY

BEAT_EVERY = 10.0
FORGET_AFTER = timedelta(days=1)


def new_name() -> str:
    """Return a name for a worker that no other has or had: its host, its process, and something random."""
    return f"{socket.gethostname()[:64]}:{os.getpid()}:{uuid4().hex[:8]}"


class Heartbeat:
    """This worker process in the table of workers, under a name that no earlier process had."""

    def __init__(self, database: str) -> None:
        self.name = new_name()
        self._database = database
        self._beaten_at = float("-inf")

    def beat(self, activity: str) -> None:
        """Say that the worker is alive and what it does, at most every 10 s."""
        if time.monotonic() - self._beaten_at >= BEAT_EVERY:
            self._beat(activity)

    def _beat(self, activity: str) -> None:
        workers = Worker.objects.using(self._database)
        # Registered again where somebody has taken the row away.
        if not workers.filter(name=self.name).update(last_seen_at=UtcNow(), activity=activity):
            self._register(activity)
        self._beaten_at = time.monotonic()

    def _register(self, activity: str) -> None:
        workers = Worker.objects.using(self._database)
        workers.filter(last_seen_at__lt=UtcNow() - FORGET_AFTER).delete()
        row = Worker(
            name=self.name,
            host=self.name.partition(":")[0],
            pid=os.getpid(),
            started_at=UtcNow(),
            last_seen_at=UtcNow(),
            activity=activity,
        )
        workers.bulk_create([row], ignore_conflicts=True)

    @contextmanager
    def place(self, places: int | None, *, length: timedelta) -> Iterator[bool]:
        """Hold one of so many places for drains that run at once; False when all are taken, True without a limit."""
        if places is None:
            yield True
            return
        has_place = self._take_place(places, length)
        try:
            yield has_place
        finally:
            if has_place:
                self._leave_place()

    def _leave_place(self) -> None:
        """Give the place back, at the second try where the first fails; otherwise it runs out by itself."""
        for _ in range(2):
            try:
                Worker.objects.using(self._database).filter(name=self.name).update(draining_until=None)
            except DATABASE_AWAY:
                connections[self._database].close_if_unusable_or_obsolete()
            else:
                return

    def _take_place(self, places: int, length: timedelta) -> bool:
        workers = Worker.objects.using(self._database)
        self._beat("draining")
        with transaction.atomic(using=self._database):
            # The one row of Wake is the lock: who counts must not count beside another.
            Wake.objects.using(self._database).select_for_update().filter(pk=Wake.ONLY).first()
            if workers.filter(draining_until__gt=UtcNow()).exclude(name=self.name).count() >= places:
                return False
            return bool(workers.filter(name=self.name).update(draining_until=UtcNow() + length))

    def end(self) -> None:
        """Take the worker out of the table: its process ends. A database that is away keeps the row until it is forgotten."""
        if self._beaten_at == float("-inf"):
            return
        with suppress(DatabaseError):
            Worker.objects.using(self._database).filter(name=self.name).delete()
