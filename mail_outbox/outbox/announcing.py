"""After the commit: the entries know that they are committed, and one wake goes out per transaction."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction

from mail_outbox import signals
from mail_outbox.models import OutboxEntry
from mail_outbox.outbox import suppressing


@dataclass(slots=True)
class _Wave:
    """The changes that share one wake: those of one transaction, and of any before it that were rolled back."""

    is_announced: bool = False


_waves = threading.local()


def after_commit(entries: Sequence[OutboxEntry] = (), *, database: str) -> None:
    """Once the transaction has committed, mark the new entries as committed and tell those who listen."""
    # Each change brings a hook of its own, because a savepoint that rolls back drops the hooks made inside it; the
    # first that survives announces for all. A wave whose hooks were all rolled back serves the next transaction.
    wave = _waves.__dict__.get(database)
    if wave is None or wave.is_announced:
        wave = _waves.__dict__[database] = _Wave()

    def announce() -> None:
        mark_committed(entries)
        if not wave.is_announced:
            wave.is_announced = True
            signals.work_waiting.send_robust(sender=OutboxEntry, database=database)
            suppressing.look(database=database)

    transaction.on_commit(announce, using=database, robust=True)


def mark_committed(entries: Sequence[OutboxEntry]) -> None:
    """Note on the instances that they are committed, and tell those who listen for new entries."""
    for entry in entries:
        entry.committed = True
        if signals.entry_enqueued.receivers:
            signals.entry_enqueued.send_robust(sender=OutboxEntry, entry=entry)
