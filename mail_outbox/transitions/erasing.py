"""One person's data out of everything: entries, contents, attachments, recipients, facts, suppressions, texts."""

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q

from mail_outbox.core.addresses import normalise
from mail_outbox.core.counts import Counts
from mail_outbox.core.envelope import blob_names, digest
from mail_outbox.core.envelope.editing import without_recipient
from mail_outbox.core.envelope.streams import CHUNK, Stream
from mail_outbox.core.errors import UnreadableEnvelope
from mail_outbox.core.pseudonyms import Person
from mail_outbox.core.states import OVER, State, Verb, sources
from mail_outbox.models import (
    Attachment,
    AttachmentUse,
    Attempt,
    DeliveryEvent,
    EntryContent,
    OutboxEntry,
    Recipient,
    RecipientStatus,
    Suppression,
    UtcNow,
    read_blobs,
)
from mail_outbox.transitions.forgetting import forget_contents
from mail_outbox.transitions.locking import ANY, BATCH, among, change, exactly
from mail_outbox.vault import get_vault

ERASED = "erased"
HANDFUL = 8 * CHUNK
"""How many bytes of attachments are searched at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseResult(Counts):
    """What was erased, and what is left.

    `entries` were addressed to the person, and `cancelled` of them had not been sent. `contents`, `attachments`, `recipients`
    and `events` are gone; `texts` and `suppressions` have a pseudonym where the address was. `waiting` entries still have
    to go to others and lose their content after that, `sending` ones want another erase, `unsearched` contents and
    attachments could not be looked into: the key is lost, or a storage does not give the file. `files` are still to be
    deleted: the sweep goes on.
    """

    entries: int = 0
    cancelled: int = 0
    contents: int = 0
    attachments: int = 0
    recipients: int = 0
    events: int = 0
    texts: int = 0
    suppressions: int = 0
    waiting: int = 0
    sending: int = 0
    unsearched: int = 0
    files: int = 0


def entries_of(person: Person, *, after: int, limit: int = BATCH, database: str) -> list[int]:
    """List the next entries that are addressed to the person."""
    entries = OutboxEntry.objects.using(database).filter(recipients__address=person.address, pk__gt=after)
    return list(entries.order_by("pk").distinct().values_list("pk", flat=True)[:limit])


def erase_entries(keys: Collection[int], person: Person, *, dry_run: bool, database: str) -> EraseResult:
    """Erase the person from entries addressed to it.

    What nobody else waits for is cancelled, and loses its content; what somebody does stays, without the person.
    """
    recipients = Recipient.objects.using(database).filter(entry_id__in=keys)
    with transaction.atomic(using=database):
        states = _states(keys, dry_run=dry_run, database=database)
        others = recipients.filter(status=RecipientStatus.OPEN).exclude(address=person.address)
        awaited = set(others.values_list("entry_id", flat=True))
        shared = [key for key, state in states.items() if state in sources(Verb.ERASE) and key in awaited]
        sending = [key for key, state in states.items() if state == State.SENDING]
        mine = [key for key in states if key not in {*shared, *sending}]
        stuck = _leave_out(shared, person, dry_run=dry_run, database=database)
        gone = recipients.filter(address=person.address).exclude(entry_id__in=[*sending, *stuck])
        result = EraseResult(
            entries=len(states),
            cancelled=sum(states[key] in sources(Verb.ERASE) for key in mine),
            recipients=gone.count(),
            events=DeliveryEvent.objects.using(database).filter(recipient__in=gone.values("pk")).count(),
            waiting=len(shared),
            sending=len(sending),
            unsearched=len(stuck),
        )
        if not dry_run:
            with exactly(database):
                gone.delete()
            change(
                mine,
                Q(state__in=sources(Verb.ERASE)),
                database=database,
                state=State.CANCELLED,
                state_reason=ERASED,
                finished_at=UtcNow(),
            )
            # A provider may have told more about the person than the address.
            change(mine, ANY, database=database, outcome_text="")
            Attempt.objects.using(database).filter(entry_id__in=mine).update(text="")
        return result.plus(_forget(mine, dry_run=dry_run, database=database))


def _states(keys: Collection[int], *, dry_run: bool, database: str) -> dict[int, str]:
    """Read the states of entries, locked in the order of their keys but for what is being sent, which stays as it is."""
    entries = OutboxEntry.objects.using(database).filter(pk__in=keys)
    if dry_run:
        return dict(entries.order_by("pk").values_list("pk", "state"))
    others = among(list(keys), ~Q(state=State.SENDING), database=database).order_by("pk")
    held = dict(others.select_for_update().values_list("pk", "state"))
    sending = entries.exclude(pk__in=held).values_list("pk", flat=True)
    return dict(sorted((dict.fromkeys(sending, State.SENDING.value) | held).items()))


def _leave_out(keys: Sequence[int], person: Person, *, dry_run: bool, database: str) -> list[int]:
    """Take the person out of messages that go to others, which are not kept after that; return those that cannot be read."""
    stuck: list[int] = []
    for content in EntryContent.objects.using(database).filter(pk__in=keys).iterator():
        try:
            payload, metadata = content.opened()
        except UnreadableEnvelope:
            stuck.append(content.pk)
            continue
        if not dry_run:
            payload = without_recipient(payload, lambda text: normalise(text) == person.address)
            content.digest = digest(payload) if content.digest else ""
            content.close(payload, metadata, get_vault())
            content.save(using=database)
    if not dry_run:
        # It is another message from now on, which no provider recognises as the one that may be out.
        change(keys, ANY, database=database, sensitive=True, recognised_until=None)
    return stuck


def _forget(keys: Sequence[int], *, dry_run: bool, database: str) -> EraseResult:
    contents = EntryContent.objects.using(database).filter(pk__in=keys).count()
    if not dry_run:
        return EraseResult(contents=contents, attachments=forget_contents(keys, database=database))
    uses = AttachmentUse.objects.using(database)
    only_theirs = uses.filter(content__in=keys).exclude(
        attachment__in=uses.exclude(content__in=keys).values("attachment")
    )
    return EraseResult(contents=contents, attachments=only_theirs.values("attachment").distinct().count())


def attachments_after(name: str, *, database: str) -> list[str]:
    """List as many of the next attachments as memory takes easily."""
    names, size = list[str](), 0
    following = Attachment.objects.using(database).filter(digest__gt=name).order_by("digest")
    for key, more in following.values_list("digest", "size")[:BATCH]:
        if names and size + more > HANDFUL:
            break
        names.append(key)
        size += more
    return names


def attachments_with(person: Person, names: Collection[str], *, database: str) -> tuple[set[str], int]:
    """Read the attachments, files in storages too, and return those that have the address, and how many cannot be read."""
    found: set[str] = set()
    unreadable = 0
    for name, blob in read_blobs(names, database=database).items():
        try:
            if person.is_in_bytes(blob.chunks() if isinstance(blob, Stream) else [blob]):
                found.add(name)
        except UnreadableEnvelope:
            unreadable += 1
    return found, unreadable


def mentions_of(
    person: Person, attachments: Set[str], *, after: int, limit: int = BATCH, database: str
) -> tuple[list[int], int, int | None]:
    """Search the next contents: return those that have the address, how many cannot be read, and where to go on or None."""
    contents = EntryContent.objects.using(database).filter(pk__gt=after).order_by("pk")[:limit]
    found: list[int] = []
    last = seen = unreadable = 0
    for content in contents.iterator():
        last, seen = content.pk, seen + 1
        try:
            payload, metadata = content.opened()
            if person.is_in([payload, metadata]) or not attachments.isdisjoint(blob_names(payload)):
                found.append(content.pk)
        except (UnreadableEnvelope, RecursionError):
            unreadable += 1
    return found, unreadable, last if seen == limit else None


def erase_mentions(keys: Collection[int], *, dry_run: bool, database: str) -> EraseResult:
    """Remove contents that have the address, once their entries are over."""
    with transaction.atomic(using=database):
        states = _states(keys, dry_run=dry_run, database=database)
        over = [key for key, state in states.items() if state in OVER]
        waiting = [key for key, state in states.items() if state in sources(Verb.ERASE)]
        if not dry_run:
            change(waiting, ANY, database=database, sensitive=True)
        left = EraseResult(waiting=len(waiting), sending=len(states) - len(over) - len(waiting))
        return left.plus(_forget(over, dry_run=dry_run, database=database))


def erase_suppressions(person: Person, *, dry_run: bool, database: str) -> int:
    """Let the person's suppressions go on under the pseudonym, and return how many there are."""
    suppressions = Suppression.objects.using(database)
    plain = suppressions.filter(address=person.address)
    count = plain.count()
    if count and not dry_run:
        with transaction.atomic(using=database):
            suppressions.filter(address=person.pseudonym).delete()
            plain.update(address=person.pseudonym)
    return count
