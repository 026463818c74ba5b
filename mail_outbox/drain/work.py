"""What a sender is handed and what it hands back."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.core.mail import EmailMessage

from mail_outbox.conf import Conf, message_classes
from mail_outbox.core.envelope import Envelope, blob_names, load
from mail_outbox.core.errors import UnreadableEnvelope
from mail_outbox.core.outcomes import Ambiguous, MailerTrouble, Outcome
from mail_outbox.core.retry import GIVE_BACK, Decision, History, Policy
from mail_outbox.core.states import State
from mail_outbox.delivery import Line, Parcel
from mail_outbox.models import Attachment, OutboxEntry, Recipient, RecipientStatus, UtcNow
from mail_outbox.transitions.histories import is_repeated, read_histories


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One claimed entry with all that its attempt needs, so that the sender touches no database.

    `now` is the database's clock at the moment `read_at` of the monotonic one; `lease_until` is monotonic too.
    """

    entry: OutboxEntry
    claim_id: UUID
    envelope: Envelope | None
    metadata: Mapping[str, Any] | None
    history: History
    only: frozenset[str] | None
    deadline: timedelta
    lease_until: float
    now: datetime
    read_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a job: an outcome, or a decision where no attempt was made."""

    job: Job
    started_at: datetime
    duration: timedelta
    outcome: Outcome | None = None
    decision: Decision | None = None


def read_jobs(
    claim_id: UUID, keys: Sequence[int] | None = None, *, deadline: timedelta, lease_until: float, database: str
) -> list[Job]:
    """Read the contents of a claim in one query, and one more each where there are attachments or earlier attempts.

    The keys only make it faster: the claim's id alone says what is ours.
    """
    claimed = OutboxEntry.objects.using(database).claimed(claim_id)
    if keys is not None:
        claimed = claimed.filter(pk__in=keys)
    entries = list(claimed.select_related("content").annotate(now=UtcNow()).order_by("rank", "due_at", "pk"))
    if not entries:
        return []
    now, read_at = entries[0].now, time.monotonic()
    histories = read_histories(entries, now=now, database=database)
    recipients_left = _read_recipients_left(entries, database)
    envelopes = _read_envelopes(entries, database)
    return [
        Job(
            entry=entry,
            claim_id=claim_id,
            envelope=envelopes.get(entry.pk),
            metadata=entry.content.metadata if entry.pk in envelopes else None,
            history=histories[entry.pk],
            only=recipients_left.get(entry.pk),
            deadline=deadline,
            lease_until=lease_until,
            now=now,
            read_at=read_at,
        )
        for entry in entries
    ]


def _read_recipients_left(entries: Sequence[OutboxEntry], database: str) -> dict[int, frozenset[str]]:
    """Return the open recipients of the entries where some have had their answer; first attempts cost no query."""
    repeated = [entry.pk for entry in entries if is_repeated(entry)]
    if not repeated:
        return {}
    rows = Recipient.objects.using(database).filter(entry_id__in=repeated)
    left: dict[int, set[str]] = {}
    answered: set[int] = set()
    for key, address, status in rows.values_list("entry_id", "address", "status"):
        if status == RecipientStatus.OPEN:
            left.setdefault(key, set()).add(address)
        else:
            answered.add(key)
    return {key: frozenset(left.get(key, ())) for key in answered}


def _read_envelopes(entries: Sequence[OutboxEntry], database: str) -> dict[int, Envelope]:
    payloads: dict[int, dict[str, Any]] = {}
    wanted: dict[int, frozenset[str]] = {}
    for entry in entries:
        # A payload that no version of ours has written may be nested as deeply as it likes.
        with suppress(ObjectDoesNotExist, RecursionError):
            wanted[entry.pk] = blob_names(entry.content.payload)
            payloads[entry.pk] = entry.content.payload
    names = frozenset().union(*wanted.values())
    blobs: dict[str, bytes] = {}
    if names:
        stored = Attachment.objects.using(database).filter(digest__in=names).values_list("digest", "data")
        blobs = {digest: bytes(data) for digest, data in stored}
    return {
        key: Envelope(payload, {name: blobs[name] for name in wanted[key] if name in blobs})
        for key, payload in payloads.items()
    }


def perform(job: Job, line: Line) -> Result:
    """Make one attempt in a sender's thread, and return what it came to; never raises."""
    started = time.monotonic()

    def result(outcome: Outcome | None = None, decision: Decision | None = None) -> Result:
        # By the database's clock, like everything that is compared with what the database wrote.
        started_at = job.now + timedelta(seconds=started - job.read_at)
        duration = timedelta(seconds=time.monotonic() - started)
        return Result(job=job, started_at=started_at, duration=duration, outcome=outcome, decision=decision)

    if started + job.deadline.total_seconds() > job.lease_until:
        return result(decision=GIVE_BACK)
    try:
        message = _load(job)
    except UnreadableEnvelope as error:
        return result(decision=Decision(state=State.HELD, reason=f"unreadable: {error}"))
    except ImportError as error:
        # A class of MESSAGE_CLASSES is not there: the settings are wrong, and no message is to blame.
        return result(outcome=MailerTrouble(code="configuration", text=f"MESSAGE_CLASSES: {error}"))
    try:
        return result(outcome=line.deliver(_parcel(job, message, _deadline(job, started))))
    except BaseException as error:  # noqa: BLE001
        # Whatever a backend throws, SystemExit included, the thread lives on, and nobody knows what went out.
        return result(outcome=Ambiguous(code=type(error).__name__))


def _deadline(job: Job, started: float) -> float:
    deadline = started + job.deadline.total_seconds()
    expires_at = job.entry.expires_at
    return deadline if expires_at is None else min(deadline, job.read_at + (expires_at - job.now).total_seconds())


def _load(job: Job) -> EmailMessage:
    if job.envelope is None:
        raise UnreadableEnvelope("the content is gone, or damaged")
    return load(job.envelope, classes=message_classes())


def _parcel(job: Job, message: EmailMessage, deadline: float) -> Parcel:
    entry = job.entry
    return Parcel(
        message=message,
        seed=entry.uuid.hex,
        message_id=entry.message_id,
        date=entry.date,
        deadline=deadline,
        only=job.only,
        tags=tuple(entry.tags),
        metadata=job.metadata,
    )


def policy_of(entry: OutboxEntry, conf: Conf) -> Policy:
    """Return how long to go on with the entry: its own limits, else those of the settings."""
    return Policy(
        max_attempts=conf.max_attempts if entry.max_attempts is None else entry.max_attempts,
        max_age=conf.max_age,
        backoff=conf.backoff_policy,
        on_ambiguous="hold" if entry.on_ambiguous == "hold" else "retry",
    )
