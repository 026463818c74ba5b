"""Under the key of today: contents and attachments that lie unsealed, or under an older key."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction

from mail_outbox.core.counts import Counts
from mail_outbox.core.errors import UnreadableEnvelope
from mail_outbox.models import Attachment, AttachmentChunk, EntryContent
from mail_outbox.transitions.locking import BATCH
from mail_outbox.transitions.storing import let_files_go
from mail_outbox.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateResult(Counts):
    """What was sealed anew, and how much could not be opened: its key is lost."""

    contents: int = 0
    attachments: int = 0
    undecryptable: int = 0


def rotate_contents(vault: Vault, *, after: int, limit: int = BATCH, database: str) -> tuple[RotateResult, int | None]:
    """Seal the next contents that are not under the vault's first key; return that, and where to go on or None."""
    contents = EntryContent.objects.using(database)
    done = lost = 0
    with transaction.atomic(using=database):
        old = contents.filter(pk__gt=after).exclude(key_id=vault.key_id).order_by("pk")
        rows = list(old.select_for_update()[:limit])
        for content in rows:
            try:
                payload, metadata = content.opened(vault)
            except UnreadableEnvelope:
                lost += 1
                continue
            content.close(payload, metadata, vault)
            content.save(update_fields=["payload", "metadata", "key_id"], using=database)
            done += 1
    result = RotateResult(contents=done, undecryptable=lost)
    return result, rows[-1].pk if len(rows) == limit else None


def count_to_rotate(vault: Vault, *, database: str) -> RotateResult:
    """Count what is not under the vault's first key."""
    contents = EntryContent.objects.using(database).exclude(key_id=vault.key_id)
    attachments = Attachment.objects.using(database).exclude(key_id=vault.key_id)
    return RotateResult(contents=contents.count(), attachments=attachments.count())


def attachments_to_rotate(vault: Vault, *, after: str, limit: int = BATCH, database: str) -> list[Attachment]:
    """List the next attachments that are not under the vault's first key."""
    old = Attachment.objects.using(database).filter(digest__gt=after).exclude(key_id=vault.key_id)
    return list(old.order_by("digest")[:limit])


def rotate_attachment(attachment: Attachment, vault: Vault, *, database: str) -> bool:
    """Seal the pieces of an attachment that lies in the database; tell whether it was still there, and as it was."""
    chunks = AttachmentChunk.objects.using(database).filter(attachment=attachment)
    with transaction.atomic(using=database):
        if not _lock(attachment, database):
            return False
        for chunk in chunks.order_by("number").iterator(chunk_size=1):
            chunk.data = vault.seal(vault.open(bytes(chunk.data), attachment.key_id))
            chunk.save(update_fields=["data"], using=database)
        Attachment.objects.using(database).filter(pk=attachment.pk).update(key_id=vault.key_id)
    return True


def bring_back(attachment: Attachment, chunks: Iterable[bytes], vault: Vault, *, database: str) -> bool:
    """Seal the pieces that were read from the attachment's file into the database, and let the file go."""
    with transaction.atomic(using=database):
        if not _lock(attachment, database):
            return False
        for number, data in enumerate(chunks):
            AttachmentChunk(attachment=attachment, number=number, data=vault.seal(data)).save(using=database)
        let_files_go([(attachment.storage, attachment.storage_name)], database=database)
        Attachment.objects.using(database).filter(pk=attachment.pk).update(
            key_id=vault.key_id, storage="", storage_name=""
        )
    return True


def _lock(attachment: Attachment, database: str) -> bool:
    """Lock the attachment where it is still where it was and under the key it was."""
    same = Attachment.objects.using(database).filter(
        pk=attachment.pk, key_id=attachment.key_id, storage_name=attachment.storage_name
    )
    return bool(list(same.select_for_update().values_list("pk", flat=True)))
