"""Nothing becomes queued or scheduled: entries are written with all that belongs to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from mail_outbox.core.addresses import Mailbox
from mail_outbox.core.envelope import Envelope, digest
from mail_outbox.core.states import State
from mail_outbox.models import Attachment, EntryContent, OutboxEntry, Recipient, UtcNow

REPLACED = (
    "state",
    "using",
    "rank",
    "due_at",
    "first_due_at",
    "expires_at",
    "max_attempts",
    "on_ambiguous",
    "date",
    "related",
    "tags",
    "subject",
    "sensitive",
)
"""The columns that `replace` takes from the new draft."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One entry about to be written: the unsaved row, its envelope, its mailboxes, and when it may go.

    `send_at` and `expires_at` are moments, or delays counted from the database's now; None means now, and never.
    """

    entry: OutboxEntry
    envelope: Envelope
    mailboxes: Sequence[Mailbox]
    metadata: dict[str, Any] | None = None
    send_at: datetime | timedelta | None = None
    expires_at: datetime | timedelta | None = None


def insert(drafts: Sequence[Draft], *, database: str) -> list[OutboxEntry]:
    """Write up to BATCH drafts in a constant number of statements, and return their entries.

    Joins the caller's transaction where there is one; an error of the database is the caller's.
    """
    now = datetime.now(UTC)
    entries = [_prepare(draft, now) for draft in drafts]
    with transaction.atomic(using=database, savepoint=False):
        OutboxEntry.objects.using(database).bulk_create(entries)
        _fetch_missing_keys(entries, database)
        _write_parts(drafts, database)
    for draft in drafts:
        _settle_moments(draft, now)
    return entries


def _write_parts(drafts: Sequence[Draft], database: str) -> None:
    EntryContent.objects.using(database).bulk_create(
        EntryContent(
            entry=draft.entry,
            payload=draft.envelope.payload,
            metadata=draft.metadata,
            digest=digest(draft.envelope.payload),
        )
        for draft in drafts
    )
    Recipient.objects.using(database).bulk_create(
        Recipient(entry=draft.entry, role=mailbox.role, address=mailbox.address)
        for draft in drafts
        for mailbox in draft.mailboxes
    )
    _attach(drafts, database)


def _prepare(draft: Draft, now: datetime) -> OutboxEntry:
    entry = draft.entry
    is_ahead = draft.send_at is not None and _moment(draft.send_at, now) > now
    entry.state = State.SCHEDULED.value if is_ahead else State.QUEUED.value
    # The database's clock decides when something is due; the web server's may be hours off.
    due_at: Any = _by_database(draft.send_at) if is_ahead else UtcNow()
    entry.due_at = entry.first_due_at = due_at
    entry.expires_at = None if draft.expires_at is None else _by_database(draft.expires_at)
    entry.created_at = UtcNow()
    return entry


def _settle_moments(draft: Draft, now: datetime) -> None:
    """Replace the expressions on the instance by what they stand for, to the accuracy of the caller's clock."""
    entry = draft.entry
    entry.due_at = entry.first_due_at = now if draft.send_at is None else max(_moment(draft.send_at, now), now)
    entry.expires_at = None if draft.expires_at is None else _moment(draft.expires_at, now)
    entry.created_at = now


def _moment(when: datetime | timedelta, now: datetime) -> datetime:
    return now + when if isinstance(when, timedelta) else when


def _by_database(when: datetime | timedelta | None) -> Any:
    return UtcNow() + when if isinstance(when, timedelta) else when


def _fetch_missing_keys(entries: Sequence[OutboxEntry], database: str) -> None:
    """Read back the primary keys where the database cannot return them from an INSERT of many (MySQL)."""
    missing = [entry for entry in entries if entry.pk is None]
    if missing:
        uuids = [entry.uuid for entry in missing]
        keys = dict(OutboxEntry.objects.using(database).filter(uuid__in=uuids).values_list("uuid", "pk"))
        for entry in missing:
            entry.pk = keys[entry.uuid]


def _attach(drafts: Sequence[Draft], database: str) -> None:
    """Store what bytes are not there yet, and link every entry to its own."""
    # Sorted, so that two transactions that bring the same new bytes wait for each other in one order.
    blobs = dict(sorted((name, data) for draft in drafts for name, data in draft.envelope.blobs.items()))
    if not blobs:
        return
    attachments = Attachment.objects.using(database)
    known = set(attachments.filter(digest__in=blobs).values_list("digest", flat=True))
    attachments.bulk_create(
        (_attachment(name, data) for name, data in blobs.items() if name not in known), ignore_conflicts=True
    )
    link = EntryContent.attachments.through
    link._default_manager.using(database).bulk_create(
        link(entrycontent_id=draft.entry.pk, attachment_id=name) for draft in drafts for name in draft.envelope.blobs
    )


def _attachment(name: str, data: bytes) -> Attachment:
    return Attachment(digest=name, size=len(data), data=data, created_at=datetime.now(UTC))


def replace(entry: OutboxEntry, draft: Draft, *, database: str) -> bool:
    """Put the draft's content in the place of an entry that nobody has tried to send yet; tell whether that was possible.

    The entry keeps its keys: primary key, uuid, Message-ID and idempotency key.
    """
    entries = OutboxEntry.objects.using(database)
    now = datetime.now(UTC)
    with transaction.atomic(using=database):
        if not entries.select_for_update().waiting().filter(pk=entry.pk, attempts=0).exists():
            entry.refresh_from_db()
            return False
        new = _prepare(draft, now)
        entries.filter(pk=entry.pk).update(**{name: getattr(new, name) for name in REPLACED})
        EntryContent.objects.using(database).filter(entry=entry).delete()
        Recipient.objects.using(database).filter(entry=entry).delete()
        new.pk = entry.pk
        _write_parts([draft], database)
    entry.refresh_from_db()
    return True
