"""Messages into the outbox: checked, written in the caller's transaction, announced after the commit."""

import copy
import inspect
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any, Unpack
from uuid import uuid4

from django.core.exceptions import SynchronousOnlyOperation
from django.core.mail import EmailMessage
from django.db import IntegrityError, connections, models, transaction
from django.utils import timezone

from mail_outbox import conf as settings
from mail_outbox import tracing, transitions
from mail_outbox.core import envelope
from mail_outbox.core.addresses import mailboxes, normalise
from mail_outbox.core.errors import IdempotencyConflict, InvalidMessage, NotInTransaction
from mail_outbox.core.retry import OnAmbiguous
from mail_outbox.core.validation import Limits, check_message
from mail_outbox.models import SUBJECT_LENGTH, EntryContent, OutboxEntry, new
from mail_outbox.outbox.announcing import after_commit
from mail_outbox.outbox.options import NORMAL, ManyOptions, OnConflict, Options, check_options, refuse
from mail_outbox.outbox.routing import choose
from mail_outbox.outbox.suppressing import leave_out_suppressed
from mail_outbox.outbox.twins import has_twin, use_twin
from mail_outbox.transitions import BATCH, Draft

logger = logging.getLogger("mail_outbox")


def enqueue(
    message: EmailMessage,
    *,
    using: str | None = None,
    send_at: datetime | timedelta | None = None,
    expires_at: datetime | timedelta | None = None,
    priority: int = NORMAL,
    idempotency_key: str | None = None,
    on_conflict: OnConflict = "return",
    on_ambiguous: OnAmbiguous | None = None,
    related: models.Model | None = None,
    tags: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    sensitive: bool = False,
    max_attempts: int | None = None,
    ignore_suppression: bool = False,
    database: str | None = None,
) -> OutboxEntry:
    """Write the message to the outbox, inside the caller's transaction, and return its entry.

    `using` names the mailer, or the route that chooses it; `send_at` is the earliest moment and `expires_at` the last, aware or as a delay from now;
    `priority` is -100…100, higher first. The same `idempotency_key` again returns the first entry, `is_duplicate` set;
    for other content `on_conflict` decides. `on_ambiguous` says what follows an attempt that nobody can know the end of.
    Recipients who are suppressed are left out, and where nobody is left the entry is `cancelled`; `ignore_suppression` is
    for what has to be said all the same.
    Raises an OutboxError, or TypeError, where something cannot be, and then has written nothing.
    """
    options = check_options(
        using=using,
        send_at=send_at,
        expires_at=expires_at,
        priority=priority,
        idempotency_key=idempotency_key,
        on_conflict=on_conflict,
        on_ambiguous=on_ambiguous,
        related=related,
        tags=tags,
        metadata=metadata,
        sensitive=sensitive,
        max_attempts=max_attempts,
        ignore_suppression=ignore_suppression,
        database=database,
    )
    try:  # what has_twin does, without the cost of a call
        return write(make_draft(message, options), options)
    except SynchronousOnlyOperation as error:
        raise use_twin("enqueue") from error


@has_twin
def enqueue_many(messages: Iterable[EmailMessage], **keywords: Unpack[ManyOptions]) -> list[OutboxEntry]:
    """Write all the messages or none, in a constant number of statements per 500, and return their entries in order.

    Takes the keywords of `enqueue`, for all messages alike, but those of idempotency; raises what it raises. Attachments
    and long texts that several messages have are stored once.
    """
    refuse("enqueue_many", keywords, "idempotency_key", "on_conflict")
    options = check_options(**keywords)
    check_transaction(options.database)
    entries: list[OutboxEntry] = []
    stored: set[str] = set()
    readings: dict[envelope.Stream, envelope.Reading] = {}
    database = options.database
    with (
        tracing.enqueueing() as traceparent,
        transaction.atomic(using=database),
        transitions.Gathered(database) as gathered,
    ):
        for batch in _in_batches(messages):
            drafts = [make_draft(message, options, traceparent=traceparent, readings=readings) for message in batch]
            drafts = leave_out_suppressed(_share(drafts, stored), database=database)
            entries += transitions.insert(drafts, database=database, gathered=gathered)
        gathered.finish()
        after_commit(entries, database=database)
    return entries


def enqueue_as_django(message: EmailMessage, *, using: str | None = None) -> OutboxEntry:
    """Write the message under Django's own contract, for the drop-in backend, and return its entry.

    What only a provider can judge is not refused here: it becomes an entry that ends `failed` with the reason.
    """
    options = check_options(using=using)
    return write(make_draft(message, options, strict=False), options)


def make_draft(
    message: EmailMessage,
    options: Options,
    *,
    strict: bool = True,
    traceparent: str = "",
    readings: dict[envelope.Stream, envelope.Reading] | None = None,
) -> Draft:
    """Check the message and take it apart, and return what is to be written; `readings` remembers files for the next."""
    conf = settings.get_conf()
    check_message(message, limits=Limits(message_bytes=conf.max_message_bytes), strict=strict)
    message, options = _take_send_at(message, options)
    using, route = choose(options.using, message)
    stored = envelope.dump(message, classes=settings.message_classes(), readings=readings)
    uuid = uuid4()
    entry = new(
        OutboxEntry,
        uuid=uuid,
        using=using,
        route=route,
        rank=-options.priority,
        max_attempts=options.max_attempts,
        on_ambiguous=options.on_ambiguous,
        idempotency_key=options.idempotency_key,
        message_id=_message_id(message, uuid.hex),
        date=datetime.now(UTC).replace(microsecond=0),
        related=options.related,
        tags=options.tags,
        subject=str(message.subject or "")[:SUBJECT_LENGTH],
        sensitive=options.sensitive,
        ignore_suppression=options.ignore_suppression,
    )
    return Draft(
        entry=entry,
        envelope=stored,
        mailboxes=mailboxes(message),
        metadata=options.metadata,
        traceparent=traceparent,
        send_at=options.send_at,
        expires_at=options.expires_at,
    )


def write(draft: Draft, options: Options) -> OutboxEntry:
    """Write one draft and announce it after the commit; an idempotency key that is there already decides otherwise."""
    check_transaction(options.database)
    with tracing.enqueueing() as traceparent:
        draft = replace(draft, traceparent=traceparent) if traceparent else draft
        [draft] = leave_out_suppressed([draft], database=options.database)
        return _write(draft, options)


def _write(draft: Draft, options: Options) -> OutboxEntry:
    if options.idempotency_key is not None:
        return _write_once(draft, options, options.idempotency_key)
    entry = transitions.insert([draft], database=options.database)[0]
    after_commit([entry], database=options.database)
    return entry


def check_transaction(database: str) -> None:
    """Raise or warn where the project wants every enqueue inside a transaction and there is none."""
    wish = settings.get_conf().outside_atomic
    if wish == "allow" or connections[database].in_atomic_block:
        return
    problem = "enqueue was called outside transaction.atomic(); the mail will go even if what it is about does not."
    if wish == "error":
        raise NotInTransaction(problem + " Wrap both in one atomic() block.")
    frame, level = inspect.currentframe(), 1
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("mail_outbox."):
        frame, level = frame.f_back, level + 1
    # The line to look at is the caller's, by whichever verb it came.
    warnings.warn(problem, RuntimeWarning, stacklevel=level)


def _write_once(draft: Draft, options: Options, key: str) -> OutboxEntry:
    entries = OutboxEntry.objects.using(options.database).filter(idempotency_key=key)
    existing = entries.first()
    if existing is None:
        try:
            with transaction.atomic(using=options.database):
                entry = transitions.insert([draft], database=options.database)[0]
        except IntegrityError:
            existing = entries.first() or _read_past_snapshot(entries, options.database)
            if existing is None:
                raise
        else:
            after_commit([entry], database=options.database)
            return entry
    try:
        return _resolve_conflict(existing, draft, options, key)
    except OutboxEntry.DoesNotExist:
        return _write_once(draft, options, key)  # it has been pruned since, and the key is free again


def _read_past_snapshot(entries: models.QuerySet[OutboxEntry], database: str) -> OutboxEntry | None:
    # Somebody else's transaction was first, and under REPEATABLE READ only a locking read sees what it has committed.
    # Never the first choice: InnoDB lets three callers who all lock after a duplicate key deadlock.
    with transaction.atomic(using=database):
        return entries.select_for_update().first()


def _resolve_conflict(existing: OutboxEntry, draft: Draft, options: Options, key: str) -> OutboxEntry:
    existing.is_duplicate = True
    # What has been erased or pruned is nobody's to compare with.
    try:
        if not existing.has_content or existing.content.digest == envelope.digest(draft.envelope.payload):
            return existing
    except EntryContent.DoesNotExist:
        return existing
    if options.on_conflict == "return":
        logger.warning("idempotency key reused for other content", extra={"entry": existing.pk})
        return existing
    if options.on_conflict == "raise":
        raise IdempotencyConflict(
            f"idempotency_key={key!r} already stands for entry {existing.pk} with other content. "
            "Use another key, or on_conflict='replace' while that entry waits."
        )
    if not transitions.replace(existing, draft, database=options.database):
        raise IdempotencyConflict(
            f"Entry {existing.pk} under idempotency_key={key!r} is '{existing.state}' after {existing.attempts} "
            "attempts and cannot be replaced any more. Use another key to send this content too."
        )
    after_commit(database=options.database)
    return existing


def _take_send_at(message: EmailMessage, options: Options) -> tuple[EmailMessage, Options]:
    """Take Anymail's `send_at` for ours: left on the message, the provider would delay a second time."""
    asked = getattr(message, "send_at", None)
    if isinstance(asked, bool) or not isinstance(asked, date | int | float):
        return message, options
    message = copy.copy(message)
    vars(message).pop("send_at", None)
    if options.send_at is not None:
        return message, options
    return message, replace(options, send_at=_as_moment(asked))


def _as_moment(asked: date | float) -> datetime:
    if isinstance(asked, int | float):
        return datetime.fromtimestamp(asked, tz=UTC)
    moment = asked if isinstance(asked, datetime) else datetime.combine(asked, time())
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


def _message_id(message: EmailMessage, unique: str) -> str:
    """Return the caller's own Message-ID, or a new one in the sender's domain (RFC 5322 3.6.4)."""
    for name, value in message.extra_headers.items():
        if name.lower() == "message-id":
            if len(str(value)) > 255:
                raise InvalidMessage(f"The Message-ID is {len(str(value))} characters long; at most 255 can be kept.")
            return str(value)
    _, at, domain = normalise(str(message.from_email or "")).rpartition("@")
    return f"<{unique}@{domain if at and domain else 'localhost'}>"


def _share(drafts: Sequence[Draft], stored: set[str]) -> list[Draft]:
    """Let the drafts share their long texts with each other and with what is stored; note what they store."""
    envelopes = envelope.share([draft.envelope for draft in drafts], stored=stored)
    stored.update(name for each in envelopes for name in each.blobs)
    return [
        draft if each is draft.envelope else replace(draft, envelope=each)
        for draft, each in zip(drafts, envelopes, strict=True)
    ]


def _in_batches(messages: Iterable[EmailMessage]) -> Iterator[list[EmailMessage]]:
    if not isinstance(messages, Iterable):
        raise InvalidMessage(
            f"Expected several messages, not {type(messages).__name__}; write enqueue_many([message])."
        )
    iterator = iter(messages)
    while batch := list(islice(iterator, BATCH)):
        yield batch
