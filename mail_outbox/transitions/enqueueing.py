"""Nothing becomes queued or scheduled: entries are written with all that belongs to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from mail_outbox.core.addresses import Mailbox
from mail_outbox.core.envelope import Blob, Envelope, Stream, digest
from mail_outbox.core.outcomes import SUPPRESSED
from mail_outbox.core.states import State
from mail_outbox.models import EntryContent, OutboxEntry, Recipient, RecipientStatus, UtcNow, Wake, new
from mail_outbox.transitions.gathering import Gathered, finish
from mail_outbox.transitions.inserting import insert_rows, insert_together
from mail_outbox.transitions.tables import NOW
from mail_outbox.vault import Vault, get_vault

REPLACED = (
    "state",
    "using",
    "route",
    "rank",
    "due_at",
    "first_due_at",
    "expires_at",
    "max_attempts",
    "on_ambiguous",
    "date",
    "related",
    "tags",
    "template",
    "subject",
    "sensitive",
    "ignore_suppression",
    "has_suppressed",
)
"""The columns that `replace` takes from the new draft."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One entry about to be written: the unsaved row, its envelope, its mailboxes, and when it may go.

    `suppressed` are those of its addresses that are not to be written to.
    `send_at` and `expires_at` are moments, or delays counted from the database's now; None means now, and never.
    """

    entry: OutboxEntry
    envelope: Envelope
    mailboxes: Sequence[Mailbox]
    metadata: dict[str, Any] | None = None
    traceparent: str = ""
    suppressed: frozenset[str] = frozenset()
    send_at: datetime | timedelta | None = None
    expires_at: datetime | timedelta | None = None

    @property
    def is_for_nobody(self) -> bool:
        """Tell whether all its recipients are suppressed."""
        return bool(self.suppressed) and all(mailbox.address in self.suppressed for mailbox in self.mailboxes)

    def recipient(self, mailbox: Mailbox) -> Recipient:
        """Return the row for one of the mailboxes."""
        recipient = new(Recipient, entry_id=self.entry.pk, role=mailbox.role, address=mailbox.address)
        if mailbox.address in self.suppressed:
            recipient.status, recipient.code = RecipientStatus.SUPPRESSED.value, SUPPRESSED
        return recipient


def insert(drafts: Sequence[Draft], *, database: str, gathered: Gathered | None = None) -> list[OutboxEntry]:
    """Write up to BATCH drafts in a constant number of statements, and return their entries.

    Joins the caller's transaction where there is one; an error of the database is the caller's. What follows the
    rows, attachments for example, is done at once, or by whoever has `gathered` it.
    """
    now = datetime.now(UTC)
    clock = NOW if len(drafts) == 1 else _ask_clock(database)
    entries = [_prepare(draft, now, clock) for draft in drafts]
    # A file that changes between being named and being written spoils the caller's message, not the caller's transaction.
    is_streamed = any(isinstance(blob, Stream) for draft in drafts for blob in draft.envelope.blobs.values())
    with transaction.atomic(using=database, savepoint=is_streamed):
        contents = _write(drafts, database)
        if gathered is None:
            finish(_blobs_of(drafts), _for_nobody(drafts), database=database)
        else:
            gathered.add(_blobs_of(drafts), _for_nobody(drafts))
    for draft, content in zip(drafts, contents, strict=True):
        _settle_moments(draft, now)
        content.entry = draft.entry  # which from now on needs no query for it
    return entries


def _write(drafts: Sequence[Draft], database: str) -> list[EntryContent]:
    entries = [draft.entry for draft in drafts]
    if len(drafts) == 1:
        contents, recipients = _parts(drafts)
        insert_together(entries[0], contents, recipients, by="entry_id", database=database)
        return contents
    insert_rows(entries, database=database)
    _fetch_missing_keys(entries, database)
    return _write_parts(drafts, database)


def _write_parts(drafts: Sequence[Draft], database: str) -> list[EntryContent]:
    contents, recipients = _parts(drafts)
    insert_rows(contents, database=database)
    insert_rows(recipients, database=database)
    return contents


def _parts(drafts: Sequence[Draft]) -> tuple[list[EntryContent], list[Recipient]]:
    vault = get_vault()
    recipients = [draft.recipient(mailbox) for draft in drafts for mailbox in draft.mailboxes]
    return [_content(draft, vault) for draft in drafts], recipients


def _blobs_of(drafts: Sequence[Draft]) -> dict[int, Mapping[str, Blob]]:
    return {draft.entry.pk: draft.envelope.blobs for draft in drafts if draft.envelope.blobs}


def _for_nobody(drafts: Sequence[Draft]) -> list[int]:
    return [draft.entry.pk for draft in drafts if draft.is_for_nobody]


def _ask_clock(database: str) -> Any:
    """Return the database's now: an expression in each of many rows takes longer than to ask once."""
    wake = Wake.objects.using(database).annotate(now=UtcNow()).values_list("now", flat=True)
    return wake.filter(pk=Wake.ONLY).first() or UtcNow()


def _content(draft: Draft, vault: Vault) -> EntryContent:
    # Nobody asks for the digest of what has no key, and it takes a tenth of the whole.
    stored = "" if draft.entry.idempotency_key is None else digest(draft.envelope.payload)
    content = new(EntryContent, entry_id=draft.entry.pk, digest=stored, traceparent=draft.traceparent)
    content.close(draft.envelope.payload, draft.metadata, vault)
    return content


def _prepare(draft: Draft, now: datetime, clock: Any) -> OutboxEntry:
    """Put the moments on the row, by the database's clock: a moment, or the expression that stands for it."""
    entry = draft.entry
    is_ahead = draft.send_at is not None and _moment(draft.send_at, now) > now
    entry.state = State.SCHEDULED.value if is_ahead else State.QUEUED.value
    entry.has_suppressed = bool(draft.suppressed)
    # The database's clock decides when something is due; the web server's may be hours off.
    entry.due_at = entry.first_due_at = _by(clock, draft.send_at) if is_ahead else clock
    entry.expires_at = _by(clock, draft.expires_at)
    entry.created_at = clock
    return entry


def _settle_moments(draft: Draft, now: datetime) -> None:
    """Replace the expressions on the instance by what they stand for, to the accuracy of the caller's clock."""
    entry = draft.entry
    entry.due_at = entry.first_due_at = now if draft.send_at is None else max(_moment(draft.send_at, now), now)
    entry.expires_at = None if draft.expires_at is None else _moment(draft.expires_at, now)
    entry.created_at = now
    if draft.is_for_nobody:
        entry.state, entry.state_reason, entry.finished_at = State.CANCELLED.value, SUPPRESSED, now


def _moment(when: datetime | timedelta, now: datetime) -> datetime:
    return now + when if isinstance(when, timedelta) else when


def _by(clock: Any, when: datetime | timedelta | None) -> Any:
    return clock + when if isinstance(when, timedelta) else when


def _fetch_missing_keys(entries: Sequence[OutboxEntry], database: str) -> None:
    """Read back the primary keys where the database cannot return them from an INSERT of many (MySQL)."""
    missing = [entry for entry in entries if entry.pk is None]
    if missing:
        uuids = [entry.uuid for entry in missing]
        keys = dict(OutboxEntry.objects.using(database).filter(uuid__in=uuids).values_list("uuid", "pk"))
        for entry in missing:
            entry.pk = keys[entry.uuid]


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
        new = _prepare(draft, now, UtcNow())
        entries.filter(pk=entry.pk).update(**{name: getattr(new, name) for name in REPLACED})
        EntryContent.objects.using(database).filter(entry=entry).delete()
        Recipient.objects.using(database).filter(entry=entry).delete()
        new.pk = entry.pk
        _write_parts([draft], database)
        finish(_blobs_of([draft]), _for_nobody([draft]), database=database)
    entry.refresh_from_db()
    return True
