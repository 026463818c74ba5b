"""The sender threads of one mailer: a bounded pool, each with its own connection."""

import logging
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from django.db import close_old_connections, connections

from mail_outbox.conf import MailerOptions
from mail_outbox.core.outcomes import Outcome
from mail_outbox.delivery import Line
from mail_outbox.drain.ahead import Ahead
from mail_outbox.drain.tray import Tray
from mail_outbox.drain.work import Job, Result, Task, give_back, perform

logger = logging.getLogger("mail_outbox.worker")

STUCK_AFTER = 5.0
"""Seconds past its deadline after which a sender is given up: time for a last socket timeout to strike.

Counted from when it is first seen past its deadline: in a process that stood still, the senders have to catch up, too.
"""
REST = 10.0
"""Seconds before a worker tries again to hand out more of a mailer's messages than it could the last time."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a sender has finished, and the job it has begun since; no sender where nobody has begun the job."""

    sender: "Sender | None"
    result: Result
    following: Job | None


class Sender(threading.Thread):
    """One thread that sends one message at a time over a connection of its own; it never asks the database."""

    def __init__(self, alias: str, options: MailerOptions, ahead: Ahead, finished: Tray[Finished]) -> None:
        super().__init__(name=f"mail_outbox sender for {alias}", daemon=True)
        self.alias = alias
        self._ahead = ahead
        self._line = Line(alias, options)
        self._idle_after = options.idle_after.total_seconds()
        self._inbox: SimpleQueue[tuple[Job, threading.Event] | None] = SimpleQueue()
        self._finished = finished
        self._job: Job | None = None
        self.start()

    def send(self, job: Job, recalled: threading.Event) -> None:
        """Hand the sender its next job; the result comes through the queue. Set, the event ends the wait for a slot."""
        self._inbox.put((job, recalled))

    def stuck_on(self, job: Job) -> Outcome | None:
        """Return what the attempt at the job has come to, which has not come back in time; None where nobody knows."""
        outcome = self._line.stuck()
        # Looked at last: only then what was seen of the line was seen of this job.
        return outcome if self._job is job else None

    def stop(self) -> None:
        """Let the sender close its connection and end once it has nothing to do."""
        self._inbox.put(None)

    def run(self) -> None:
        while (task := self._next()) is not None:
            job: Job | None
            job, recalled = task
            del task  # with all its attachments, however long the next one takes to come
            while job is not None:
                job = self._finish(job, recalled)
        self._line.close()
        connections.close_all()

    def _finish(self, job: Job, recalled: threading.Event) -> Job | None:
        """Send one message, and return the job that comes next without anybody having to be asked."""
        self._job = job
        result = perform(job, self._line, recalled)
        self._job = None
        # After trouble nobody tries the next one before it is known what that means for the mailer.
        following = self._ahead.take() if result.has_reached else None
        self._finished.put(Finished(self, result, following))
        # The thread itself asks no database, but a receiver of Anymail's signals may have.
        close_old_connections()
        return following

    def _next(self) -> tuple[Job, threading.Event] | None:
        try:
            return self._inbox.get(timeout=self._idle_after)
        except Empty:
            self._line.close()
            return self._inbox.get()


class Pool:
    """The senders of one mailer: at most `concurrency` busy, stuck ones replaced up to as many again."""

    def __init__(self, alias: str, options: MailerOptions, finished: Tray[Finished]) -> None:
        self.alias = alias
        self.options = options
        self.ahead = Ahead(options.concurrency)
        self.rate = options.parsed_rate
        self._finished = finished
        self._idle: list[Sender] = []
        self._busy: dict[Sender, Task] = {}
        self._stuck: dict[Sender, bool] = {}
        """The senders that were given up, and whether it is known what their attempts have come to."""
        self._leaving: set[Sender] = set()
        self._peak = 0
        self._most = 0
        self._rests_until = 0.0
        self._recalled = threading.Event()

    @property
    def room(self) -> int:
        """Return how many messages could start right now."""
        return max(0, min(self._free, self._most_now - len(self._busy)))

    @property
    def _free(self) -> int:
        unreplaced = max(0, len(self._stuck) - self.options.concurrency)
        return max(0, self.options.concurrency - len(self._busy) - unreplaced)

    @property
    def _most_now(self) -> int:
        return self._most if time.monotonic() < self._rests_until else self.options.concurrency

    @property
    def is_unlimited(self) -> bool:
        """Tell whether the mailer may be used without asking what other workers do."""
        return self.rate is None and self.options.max_connections is None

    @property
    def is_resting(self) -> bool:
        """Tell whether nothing is to be claimed for it now: it has just been in vain."""
        return self._most_now == 0

    @property
    def busy(self) -> int:
        """Return how many messages are being sent, stuck ones not counted."""
        return len(self._busy)

    @property
    def engaged(self) -> int:
        """Return how many senders may have a connection open and can take no message."""
        return len(self._busy) + len(self._stuck) + self.leaving

    @property
    def leaving(self) -> int:
        """Return how many senders are closing their connections."""
        self._leaving = {sender for sender in self._leaving if sender.is_alive()}
        return len(self._leaving)

    @property
    def alive(self) -> int:
        """Return how many senders may have a connection open."""
        return self.engaged + len(self._idle)

    @property
    def is_worn_out(self) -> bool:
        """Tell whether so many senders are stuck that the process should be replaced."""
        # Each may have a connection open, and others get no more than the limit leaves.
        limit = self.options.max_connections
        return len(self._stuck) >= min(self.options.concurrency, limit or self.options.concurrency)

    def rest(self, *, most: int = 0) -> None:
        """Let nothing begin for a while, or only so many at once: what is in the way may be over then."""
        self._most, self._rests_until = most, time.monotonic() + REST

    def take_peak(self) -> int:
        """Return how many were busy at once since this was asked last."""
        peak, self._peak = self._peak, len(self._busy)
        return peak

    def send(self, job: Job) -> None:
        """Give the job to an idle sender, or to a new one, or let it wait for the next where none may be made.

        Where none can be made, it comes back unsent.
        """
        if self.is_unlimited and not self._free:
            self.ahead.put(job)
            return
        sender = self._idle.pop() if self._idle else self._hire()
        if sender is None:
            self._finished.put(Finished(None, give_back(job), None))
            return
        self._note_begun(sender, job)
        sender.send(job, self._recalled)

    def _hire(self) -> Sender | None:
        try:
            return Sender(self.alias, self.options, self.ahead, self._finished)
        except Exception:  # the operating system may start no more threads, or give no memory
            most = len(self._busy) + len(self._idle)
            if self._most_now > most:
                logger.exception("sender not started", extra={"mailer": self.alias})
            self.rest(most=most)
            return None

    def _note_begun(self, sender: Sender, job: Job) -> None:
        begins_at = max(time.monotonic(), 0.0 if job.departure is None else job.departure.opens_at)
        self._busy[sender] = Task(job, begins_at)
        self._peak = max(self._peak, len(self._busy))

    def recall(self) -> None:
        """Let what still waits, for its slot or for a sender, come back unsent."""
        self._recalled.set()
        self._recalled = threading.Event()
        while (job := self.ahead.take()) is not None:
            self._finished.put(Finished(None, give_back(job), None))

    def retire(self, *, keep: int) -> None:
        """Let all but so many of the idle senders close their connections and end."""
        while len(self._idle) > max(keep, 0):
            sender = self._idle.pop(0)
            sender.stop()
            self._leaving.add(sender)

    def join_leaving(self, until: float) -> None:
        """Wait for the senders that are ending, but not past that moment of the monotonic clock."""
        for sender in self._leaving:
            sender.join(max(0.0, until - time.monotonic()))

    def take_back(self, sender: Sender, following: Job | None) -> None:
        """Note that the sender has finished: it has begun the following job, is idle, or ends if it had been given up."""
        was_busy = self._busy.pop(sender, None) is not None
        if following is not None:
            self._stuck.pop(sender, None)
            self._note_begun(sender, following)
        elif self._stuck.pop(sender, None) is not None:
            sender.stop()
            self._leaving.add(sender)
        elif was_busy:
            self._idle.append(sender)

    def start_waiting(self) -> None:
        """Begin what was put to wait while a sender became free."""
        while self.room and (job := self.ahead.take()) is not None:
            self.send(job)

    def has_judged(self, sender: Sender) -> bool:
        """Tell whether the attempt that the sender is stuck on has had its outcome."""
        return self._stuck.get(sender, False)

    def give_up_stuck(self) -> list[Result]:
        """Free the slots of senders past their deadline, and return what their attempts have come to.

        That is known of what cannot have left, and never will; the other jobs are left to rescue.
        """
        now = time.monotonic()
        late = [(sender, task) for sender, task in self._busy.items() if now > task.deadline]
        for _, task in late:
            task.give_up_at = min(task.give_up_at, now + STUCK_AFTER)
        return [
            task.came_to(outcome)
            for sender, task in late
            if now > task.give_up_at and (outcome := self._give_up(sender, task.job)) is not None
        ]

    def _give_up(self, sender: Sender, job: Job) -> Outcome | None:
        del self._busy[sender]
        outcome = sender.stuck_on(job)
        self._stuck[sender] = outcome is not None
        frame = sys._current_frames().get(sender.ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame else ""
        logger.error(
            "sender stuck",
            extra={"entry": job.entry.pk, "mailer": self.alias, "stuck": len(self._stuck), "stack": stack},
        )
        return outcome

    def stop(self) -> None:
        """Let every sender close its connection and end, those that are still sending when they have finished."""
        self.recall()
        for sender in (*self._idle, *self._busy, *self._stuck):
            sender.stop()
        self._idle.clear()
