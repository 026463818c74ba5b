"""What a sender is handed and what it hands back."""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage

from mail_outbox import tracing
from mail_outbox.conf import Conf, message_classes
from mail_outbox.core.envelope import Envelope, load
from mail_outbox.core.errors import UndecryptableContent, UnreadableAttachment, UnreadableEnvelope, stack_of
from mail_outbox.core.outcomes import Ambiguous, Kind, MailerTrouble, Outcome, Permanent, Transient
from mail_outbox.core.retry import GIVE_BACK, HOLD_UNSENT, Decision, History, Policy
from mail_outbox.core.states import State
from mail_outbox.core.throttle import REACHED
from mail_outbox.delivery import Line, NotNow, Parcel, intercept
from mail_outbox.drain.addressing import NOBODY_LEFT, leave_out, note_left_out
from mail_outbox.drain.slots import Departure
from mail_outbox.models import OutboxEntry

logger = logging.getLogger("mail_outbox.worker")

MISSES = 3
"""How often the file of an attachment may be missing before it is taken for lost."""
MISSING_RETRY = timedelta(minutes=20)
"""How long a storage that may lag behind is given between two looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One claimed entry with all that its attempt needs, so that the sender touches no database.

    `only` are the recipients that are left (None: all), `suppressed` those of them who must not be written to.
    `now` is the database's clock at the moment `read_at` of the monotonic one, or a little later, so that no expiry is
    passed; `lease_until` is monotonic too.
    Where the mailer has a rate, the sender waits for the `departure`.
    """

    entry: OutboxEntry
    claim_id: UUID
    envelope: Envelope | UnreadableEnvelope
    metadata: Mapping[str, Any] | None
    history: History
    only: frozenset[str] | None
    suppressed: frozenset[str] = frozenset()
    deadline: timedelta
    lease_until: float
    now: datetime
    read_at: float
    departure: Departure | None = None
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a job: an outcome, or a decision where no attempt was made.

    `is_judged` once it is known whether a refusal is one of a row, which makes it the mailer's trouble.
    """

    job: Job
    started_at: datetime
    duration: timedelta
    outcome: Outcome | None = None
    decision: Decision | None = None
    is_judged: bool = False

    @property
    def is_success(self) -> bool:
        """Tell whether somebody has the message."""
        return self.outcome is not None and self.outcome.kind in (Kind.SENT, Kind.PARTIAL)

    @property
    def has_reached(self) -> bool:
        """Tell whether the attempt has shown that the mailer works."""
        return self.outcome is not None and self.outcome.kind in REACHED


@dataclass(slots=True)
class Task:
    """What a sender is busy with, on the monotonic clock."""

    job: Job
    begins_at: float
    give_up_at: float = math.inf

    @property
    def deadline(self) -> float:
        """Return when it should be done."""
        return self.begins_at + self.job.deadline.total_seconds()

    def came_to(self, outcome: Outcome) -> Result:
        """Return the result of the attempt, which has not come back."""
        started_at = self.job.now + timedelta(seconds=self.begins_at - self.job.read_at)
        duration = timedelta(seconds=time.monotonic() - self.begins_at)
        return Result(job=self.job, started_at=started_at, duration=duration, outcome=outcome)


def give_back(job: Job) -> Result:
    """Return the result of a job that nobody has begun."""
    return Result(job=job, started_at=job.now, duration=timedelta(0), decision=GIVE_BACK)


def perform(job: Job, line: Line, recalled: threading.Event | None = None) -> Result:
    """Make one attempt in a sender's thread, and return what it came to; never raises.

    Where the job has a departure, all is made ready before it, and the attempt starts when it has come.
    """
    entry = job.entry
    with tracing.delivering(job.traceparent, entry=entry.pk, mailer=entry.using, attempt=entry.attempts) as note:
        result = _perform(job, line, recalled)
        note("" if result.outcome is None else result.outcome.kind)
    return result


def _perform(job: Job, line: Line, recalled: threading.Event | None) -> Result:
    started = time.monotonic()
    begins_at = started if job.departure is None else max(started, job.departure.opens_at)

    def result(outcome: Outcome | None = None, decision: Decision | None = None) -> Result:
        # By the database's clock, like everything that is compared with what the database wrote.
        started_at = job.now + timedelta(seconds=started - job.read_at)
        duration = timedelta(seconds=time.monotonic() - started)
        return Result(job=job, started_at=started_at, duration=duration, outcome=outcome, decision=decision)

    def gate() -> None:
        nonlocal started
        if job.departure is not None:
            if not job.departure.wait(recalled or threading.Event()):
                raise NotNow
            started = time.monotonic()

    is_missed = job.departure is not None and job.departure.is_over
    if is_missed or begins_at + job.deadline.total_seconds() > job.lease_until:
        return result(decision=GIVE_BACK)
    # With fewer recipients it has another key, which the provider would not recognise.
    if _needs_key(job) and (job.suppressed or begins_at >= _recognised_until(job)):
        return result(decision=HOLD_UNSENT)
    try:
        prepared = _prepare(job, _deadline(job, begins_at), gate)
    except BaseException as error:  # noqa: BLE001
        # A message class of the project's may raise anything, SystemExit included: nothing went out, and the thread lives on.
        prepared = _held(unreadable(job.entry, error))
    if isinstance(prepared, Decision):
        return result(decision=prepared)
    if isinstance(prepared, Outcome):
        return result(outcome=prepared)
    try:
        outcome = NOBODY_LEFT if job.suppressed and not prepared.only else line.deliver(prepared)
        return result(outcome=note_left_out(outcome, job.suppressed))
    except NotNow:
        return result(decision=GIVE_BACK)
    except BaseException as error:  # noqa: BLE001
        # Whatever a backend throws, SystemExit included, the thread lives on, and nobody knows what went out.
        return result(outcome=Ambiguous(code=type(error).__name__))


def _prepare(job: Job, deadline: float, gate: Callable[[], None]) -> Parcel | Outcome | Decision:
    """Return the message as it is to be delivered, or what becomes of it instead."""
    try:
        message = _load(job)
    except UnreadableAttachment as error:
        return _attachment_trouble(job, error)
    except UnreadableEnvelope as error:
        return _held(error)
    except (ImportError, ImproperlyConfigured) as error:
        # A class of MESSAGE_CLASSES is not there: the settings are wrong, and no message is to blame.
        return MailerTrouble(code="configuration", text=f"MESSAGE_CLASSES: {error}")
    intercepted = intercept(message, job.entry)
    return intercepted if isinstance(intercepted, Outcome) else _parcel(job, intercepted, deadline, gate)


def _held(error: UnreadableEnvelope) -> Decision:
    word = "undecryptable" if isinstance(error, UndecryptableContent) else "unreadable"
    return Decision(state=State.HELD, reason=f"{word}: {error}")


def unreadable(entry: OutboxEntry, error: BaseException) -> UnreadableEnvelope:
    """Log what nobody expected while the entry was read, but not what it says, and return what stands for it."""
    name = type(error).__name__
    about = {"entry": entry.pk, "mailer": entry.using, "error": name, "stack": stack_of(error)}
    logger.error("entry cannot be read", extra=about)
    return UnreadableEnvelope(f"reading it failed ({name}). The log says where.")


def _deadline(job: Job, begins_at: float) -> float:
    deadline = begins_at + job.deadline.total_seconds()
    if _needs_key(job):
        deadline = min(deadline, _recognised_until(job))
    expires_at = job.entry.expires_at
    return deadline if expires_at is None else min(deadline, job.read_at + (expires_at - job.now).total_seconds())


def _needs_key(job: Job) -> bool:
    """Tell whether the message may go only because the provider recognises it where it is out already."""
    return job.entry.on_ambiguous == "hold" and job.history.may_be_out


def _recognised_until(job: Job) -> float:
    left = job.history.key_left
    return job.read_at + (left.total_seconds() if left is not None else 0.0)


def _load(job: Job) -> EmailMessage:
    if isinstance(job.envelope, UnreadableEnvelope):
        raise job.envelope
    return load(job.envelope, classes=_classes())


def _classes() -> dict[str, type[EmailMessage]]:
    try:
        return message_classes()
    except (ImportError, ImproperlyConfigured):
        raise
    except Exception as error:
        # Importing a project's module can raise anything; of that only the type is sure to be harmless.
        raise ImproperlyConfigured(f"importing them failed ({type(error).__name__})") from error


def _attachment_trouble(job: Job, error: UnreadableAttachment) -> Outcome:
    """Return what to make of a storage that gives no bytes: three times it may lag behind, then the file is lost."""
    if not error.is_missing:
        return Transient(code="attachment", text=str(error))
    if job.history.attempts > MISSES and job.history.age >= MISSES * MISSING_RETRY:
        return Permanent(code="attachment_missing", text=str(error))
    return Transient(code="attachment", text=str(error), not_before=MISSING_RETRY)


def _parcel(job: Job, message: EmailMessage, deadline: float, gate: Callable[[], None]) -> Parcel:
    entry = job.entry
    parcel = Parcel(
        message=message,
        seed=entry.uuid.hex,
        message_id=entry.message_id,
        date=entry.date,
        deadline=deadline,
        only=job.only,
        tags=tuple(entry.tags),
        metadata=job.metadata,
        may_be_out=job.history.was_ambiguous,
        refused_ago=job.history.refused_ago,
        needs_key=_needs_key(job),
        gate=gate,
    )
    return leave_out(parcel, job.suppressed) if job.suppressed else parcel


def policy_of(entry: OutboxEntry, conf: Conf) -> Policy:
    """Return how long to go on with the entry, by its own limits or those of the settings, and through whom else."""
    return Policy(
        max_attempts=conf.max_attempts if entry.max_attempts is None else entry.max_attempts,
        max_age=conf.max_age,
        backoff=conf.backoff_policy,
        on_ambiguous="hold" if entry.on_ambiguous == "hold" else "retry",
        route=None if entry.is_pinned else conf.route(entry.route),
    )
