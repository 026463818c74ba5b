"""The bytes that entries need: written once, and held while entries are linked to them, so that no prune takes them away."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from uuid import UUID, uuid4

from django.db import OperationalError

from mail_outbox.core.envelope import Blob
from mail_outbox.core.envelope.streams import CHUNK, chunks_of, size_of
from mail_outbox.models import Attachment, AttachmentChunk, AttachmentUse
from mail_outbox.transitions.locking import BATCH, share_attachments
from mail_outbox.vault import Vault, get_vault

ROUNDS = 5
"""How often an attachment may be pruned between two looks before enqueue gives up."""


def attach(blobs_of: Mapping[int, Mapping[str, Blob]], *, database: str) -> None:
    """Store what bytes are not there yet, and link each entry, by its key, to its own; in the caller's transaction.

    Raises InvalidMessage where a stream has changed since it was named.
    """
    blobs = {name: blob for blobs in blobs_of.values() for name, blob in blobs.items()}
    if not blobs:
        return
    # Sorted, so that two transactions that bring the same new bytes wait for each other in one order.
    names = sorted(blobs)
    for start in range(0, len(names), BATCH):
        _store({name: blobs[name] for name in names[start : start + BATCH]}, database)
    AttachmentUse.objects.using(database).bulk_create(
        (AttachmentUse(content_id=key, attachment_id=name) for key, blobs in blobs_of.items() for name in blobs),
        batch_size=BATCH,
    )


def _store(blobs: Mapping[str, Blob], database: str) -> None:
    names = list(blobs)
    for number in range(ROUNDS):
        held = share_attachments(names, are_there=number > 0, database=database)
        missing = [name for name in names if name not in held]
        ours = _insert({name: blobs[name] for name in missing}, database) if missing else set()
        # Somebody else was first with the rest: those have to be held, too, and may be gone again.
        names = [name for name in missing if name not in ours]
        if not names:
            return
    raise OperationalError(f"Attachments vanished {ROUNDS} times in a row while they were enqueued. Enqueue again.")


def _insert(blobs: Mapping[str, Blob], database: str) -> Collection[str]:
    """Write the attachments that nobody else writes at the same time, and return their digests."""
    writer, vault = uuid4(), get_vault()
    attachments = Attachment.objects.using(database)
    attachments.bulk_create(
        (_attachment(name, blob, writer, vault.key_id) for name, blob in blobs.items()),
        batch_size=BATCH,
        ignore_conflicts=True,
    )
    ours = set(attachments.filter(digest__in=blobs, written_by=writer).values_list("digest", flat=True))
    for batch in _in_batches(_chunks({name: blob for name, blob in blobs.items() if name in ours}, vault)):
        AttachmentChunk.objects.using(database).bulk_create(batch)
    return ours


def _attachment(name: str, blob: Blob, writer: UUID, key_id: str) -> Attachment:
    now = datetime.now(UTC)
    return Attachment(digest=name, size=size_of(blob), written_by=writer, key_id=key_id, created_at=now)


def _chunks(blobs: Mapping[str, Blob], vault: Vault) -> Iterator[AttachmentChunk]:
    for name, blob in blobs.items():
        for number, data in enumerate(chunks_of(blob, name=name)):
            # A vault without keys hands on the very piece.
            yield AttachmentChunk(attachment_id=name, number=number, data=vault.seal(data))


def _in_batches(chunks: Iterable[AttachmentChunk]) -> Iterator[list[AttachmentChunk]]:
    """Yield the pieces in batches of at most CHUNK in all: drivers multiply what a statement carries."""
    batch: list[AttachmentChunk] = []
    size = 0
    for chunk in chunks:
        if batch and (size + len(chunk.data) > CHUNK or len(batch) == BATCH):
            yield batch
            batch, size = [], 0
        batch.append(chunk)
        size += len(chunk.data)
    if batch:
        yield batch
