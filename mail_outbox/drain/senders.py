"""The sender threads of one mailer: a bounded pool, each with its own connection."""

import logging
import sys
import threading
import time
import traceback
from queue import Empty, SimpleQueue

from django.db import close_old_connections, connections

from mail_outbox.conf import MailerOptions
from mail_outbox.delivery import Line
from mail_outbox.drain.work import Job, Result, perform

logger = logging.getLogger("mail_outbox.worker")

STUCK_AFTER = 5.0
"""Seconds past its deadline after which a sender is given up: time for a last socket timeout to strike."""


class Sender(threading.Thread):
    """One thread that sends one message at a time over a connection of its own; it never asks the database."""

    def __init__(self, alias: str, options: MailerOptions, finished: "SimpleQueue[tuple[Sender, Result]]") -> None:
        super().__init__(name=f"mail_outbox sender for {alias}", daemon=True)
        self.alias = alias
        self._line = Line(alias, options)
        self._idle_after = options.idle_after.total_seconds()
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._finished = finished
        self.start()

    def send(self, job: Job) -> None:
        """Hand the sender its next job; the result comes through the queue."""
        self._inbox.put(job)

    def stop(self) -> None:
        """Let the sender close its connection and end once it has nothing to do."""
        self._inbox.put(None)

    def run(self) -> None:
        while (job := self._next()) is not None:
            self._finished.put((self, perform(job, self._line)))
            del job  # with all its attachments, however long the next one takes to come
            # The thread itself asks no database, but a receiver of Anymail's signals may have.
            close_old_connections()
        self._line.close()
        connections.close_all()

    def _next(self) -> Job | None:
        try:
            return self._inbox.get(timeout=self._idle_after)
        except Empty:
            self._line.close()
            return self._inbox.get()


class Pool:
    """The senders of one mailer: at most `concurrency` busy, stuck ones replaced up to as many again."""

    def __init__(self, alias: str, options: MailerOptions, finished: "SimpleQueue[tuple[Sender, Result]]") -> None:
        self.alias = alias
        self.options = options
        self._finished = finished
        self._idle: list[Sender] = []
        self._busy: dict[Sender, tuple[Job, float]] = {}
        self._stuck: set[Sender] = set()

    @property
    def room(self) -> int:
        """Return how many messages could start right now."""
        unreplaced = max(0, len(self._stuck) - self.options.concurrency)
        return max(0, self.options.concurrency - len(self._busy) - unreplaced)

    @property
    def busy(self) -> int:
        """Return how many messages are being sent, stuck ones not counted."""
        return len(self._busy)

    @property
    def is_worn_out(self) -> bool:
        """Tell whether so many senders are stuck that the process should be replaced."""
        return len(self._stuck) >= self.options.concurrency

    def send(self, job: Job) -> None:
        """Give the job to an idle sender, or to a new one."""
        sender = self._idle.pop() if self._idle else Sender(self.alias, self.options, self._finished)
        self._busy[sender] = (job, time.monotonic() + job.deadline.total_seconds() + STUCK_AFTER)
        sender.send(job)

    def take_back(self, sender: Sender) -> None:
        """Note that the sender has finished: it is idle now, or ends if it had been given up."""
        if sender in self._stuck:
            self._stuck.discard(sender)
            sender.stop()
        elif self._busy.pop(sender, None) is not None:
            self._idle.append(sender)

    def give_up_stuck(self) -> None:
        """Free the slots of senders past their deadline; their jobs are left to rescue."""
        now = time.monotonic()
        for sender in [sender for sender, (_, limit) in self._busy.items() if now > limit]:
            self._give_up(sender)

    def _give_up(self, sender: Sender) -> None:
        job, _ = self._busy.pop(sender)
        self._stuck.add(sender)
        frame = sys._current_frames().get(sender.ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame else ""
        logger.error(
            "sender stuck",
            extra={"entry": job.entry.pk, "mailer": self.alias, "stuck": len(self._stuck), "stack": stack},
        )

    def stop(self) -> None:
        """Let every sender close its connection and end, those that are still sending when they have finished."""
        for sender in (*self._idle, *self._busy, *self._stuck):
            sender.stop()
        self._idle.clear()
