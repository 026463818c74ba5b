"""Attachments on their way between database and storage: a file is written down before it is there and until it is gone."""

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta

from django.db import connections, transaction
from django.db.models import QuerySet

from mail_outbox.models import Attachment, AttachmentChunk, StoredFile, UtcNow
from mail_outbox.transitions.locking import delete_exactly

ARRIVES_WITHIN = timedelta(hours=1)
"""How long a file may take to arrive before it is taken for what a crash has left."""
QUIET_FOR = timedelta(minutes=10)
"""How long whoever moves or deletes a file keeps others from doing the same: a storage that hangs holds up one worker."""


def attachments_above(size: int, *, key_ids: Sequence[str], limit: int, database: str) -> list[tuple[str, str]]:
    """List attachments under these keys that are larger and lie in the database, each with its key."""
    here = Attachment.objects.using(database).filter(storage_name="", size__gt=size, key_id__in=key_ids)
    return list(here.order_by("size", "digest").values_list("digest", "key_id")[:limit])


def is_file_arriving(*, database: str) -> bool:
    """Tell whether somebody has begun to move an attachment a moment ago."""
    begun = StoredFile.objects.using(database).filter(is_leaving=False)
    return begun.filter(due_at__gt=UtcNow() + ARRIVES_WITHIN - QUIET_FOR).exists()


def announce_file(digest: str, *, storage: str, name: str, database: str) -> StoredFile | None:
    """Write down that a file is about to arrive, or return None where the attachment cannot be moved now."""
    with transaction.atomic(using=database):
        if not _lock(digest, database):
            return None
        row = StoredFile(storage=storage, name=name, due_at=UtcNow() + ARRIVES_WITHIN)
        row.save(using=database)
        return row


def rename_file(file: StoredFile, name: str, *, database: str) -> None:
    """Write down that the storage has called the file otherwise."""
    StoredFile.objects.using(database).filter(pk=file.pk).update(name=name)


def note_stored(digest: str, key_id: str, file: StoredFile, *, database: str) -> bool:
    """Let the attachment be the file from now on; tell whether it is still there, as it was, and the file still ours."""
    files = StoredFile.objects.using(database).filter(pk=file.pk, is_leaving=False)
    with transaction.atomic(using=database):
        attachment = Attachment.objects.using(database).filter(digest=digest)
        if not _lock(digest, database) or not attachment.filter(key_id=key_id).exists():
            return False
        ours = files.first()
        if ours is None or not files.delete()[0]:
            return False  # it took so long that it is being deleted
        attachment.update(storage=ours.storage, storage_name=ours.name)
        delete_pieces([digest], database=database)
        return True


def delete_pieces(digests: Collection[str], *, database: str) -> None:
    """Delete the pieces of attachments that the transaction has locked."""
    delete_exactly(AttachmentChunk.objects.using(database).filter(attachment__in=digests))


def let_files_go(files: Iterable[tuple[str, str]], *, database: str) -> None:
    """Write down that the files, by storage and name, are to be deleted once the transaction has committed."""
    StoredFile.objects.using(database).bulk_create(
        StoredFile(storage=storage, name=name, is_leaving=True, due_at=UtcNow()) for storage, name in files
    )


def let_file_go(file: StoredFile, *, database: str) -> None:
    """Write down that a file that was to arrive is to be deleted instead; also where its row has gone meanwhile."""
    if not StoredFile.objects.using(database).filter(pk=file.pk).update(is_leaving=True, due_at=UtcNow()):
        let_files_go([(file.storage, file.name)], database=database)


def take_file_to_delete(*, database: str) -> StoredFile | None:
    """Return a file that is to be deleted and that nobody else has taken, or None; others leave it alone for a while."""
    files = StoredFile.objects.using(database)
    while (file := files.filter(due_at__lte=UtcNow()).order_by("due_at", "pk").first()) is not None:
        ours = files.filter(pk=file.pk, due_at__lte=UtcNow())
        if ours.update(is_leaving=True, due_at=UtcNow() + QUIET_FOR):
            return file
    return None


def forget_file(file: StoredFile, *, database: str) -> None:
    """Write down that the file is gone."""
    StoredFile.objects.using(database).filter(pk=file.pk).delete()


def count_leaving_files(*, database: str) -> int:
    """Count the files that are to be deleted and have not been."""
    return StoredFile.objects.using(database).filter(is_leaving=True).count()


def _lock(digest: str, database: str) -> bool:
    """Lock the attachment if it lies in the database and nobody holds it: who enqueues must not have to wait behind us."""
    features = connections[database].features
    here: QuerySet[Attachment] = Attachment.objects.using(database).filter(digest=digest, storage_name="")
    locked = here.select_for_update(
        skip_locked=features.has_select_for_update_skip_locked,
        # Does not fight the links that are being made to it.
        no_key=features.has_select_for_no_key_update,
    )
    return bool(list(locked.values_list("digest")))
