"""The bytes of attachments: stored once under their SHA-256, in pieces in the database or as a file in a storage."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import BytesIO

from django.core.files import File
from django.core.files.storage import storages
from django.db import models

from mail_outbox.core.envelope import Blob, Stream
from mail_outbox.core.envelope.streams import CHUNK
from mail_outbox.core.errors import UndecryptableContent, UnreadableAttachment
from mail_outbox.models.columns import ExactCharField, PartialIndex
from mail_outbox.vault import PLAIN, reading_vault

ROWS_AT_ONCE = 4
"""How many pieces one fetch brings at the most, where the database can give them by and by."""


class Attachment(models.Model):
    """Bytes under the name of their SHA-256, stored once however many entries need them.

    The bytes are pieces in the database, or the file `storage_name` in the Django storage `storage`, once they have been
    moved there; each piece is sealed by itself where there is a `key_id`. `written_by` tells whoever writes an attachment whether it was the first.
    """

    digest = models.CharField(max_length=64, primary_key=True)
    size = models.PositiveBigIntegerField()
    storage = models.CharField(max_length=100, blank=True)
    storage_name = ExactCharField(max_length=255, blank=True)
    key_id = models.CharField(max_length=12, blank=True)
    written_by = models.UUIDField()
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            PartialIndex(
                fields=["size"],
                only=models.Q(storage_name=""),
                otherwise=["storage_name", "size"],
                name="mail_outbox_attachment_here",
            )
        ]

    def __str__(self) -> str:
        return f"attachment {self.digest[:12]} ({self.size} bytes)"


class AttachmentChunk(models.Model):
    """A piece of an attachment: no statement has to carry more than that, whatever the attachment's size."""

    attachment = models.ForeignKey(Attachment, on_delete=models.CASCADE, related_name="chunks", db_index=False)
    number = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        # Not unique: to look for what it may not repeat, InnoDB locks the pieces of other attachments.
        indexes = [models.Index(fields=["attachment", "number"], name="mail_outbox_chunk_of")]

    def __str__(self) -> str:
        return f"piece {self.number} of attachment {self.attachment_id[:12]}"


class AttachmentUse(models.Model):
    """One entry's content needs one attachment; as long as anybody does, the attachment cannot be deleted."""

    content = models.ForeignKey("mail_outbox.EntryContent", on_delete=models.CASCADE, db_index=False)
    attachment = models.ForeignKey(Attachment, on_delete=models.PROTECT, related_name="uses")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["content", "attachment"], name="mail_outbox_use_once")]

    def __str__(self) -> str:
        return f"attachment {self.attachment_id[:12]} of entry {self.content_id}"


class StoredFile(models.Model):
    """A file in a storage that no attachment stands for: not yet, or (`is_leaving`) not any more.

    Written before the file is there and removed after it is gone, so that no crash leaves a file nobody knows of. At
    `due_at` it may be deleted: at once where it is leaving, and where it should have arrived long ago.
    """

    storage = models.CharField(max_length=100)
    name = ExactCharField(max_length=255)
    is_leaving = models.BooleanField(default=False)
    due_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["due_at", "id"], name="mail_outbox_file_due")]

    def __str__(self) -> str:
        return f"file {self.name} in {self.storage}"


@dataclass(frozen=True, slots=True)
class SealedBytes(Stream):
    """The sealed pieces of an attachment, opened by whoever reads them; raises UndecryptableContent."""

    pieces: tuple[bytes, ...]
    key_id: str
    size: int

    def chunks(self) -> Iterator[bytes]:
        """Open one piece after the other."""
        vault = reading_vault()
        return (vault.open(piece, self.key_id) for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class StoredBytes(Stream):
    """The bytes of an attachment that lies in a storage; raises UnreadableAttachment where the storage does not give them."""

    storage: str
    name: str
    size: int
    key_id: str = PLAIN

    def chunks(self) -> Iterator[bytes]:
        """Read the file from the beginning."""
        try:
            with storages[self.storage].open(self.name) as file:
                if self.key_id != PLAIN:
                    yield from self._open_lines(file)
                while chunk := file.read(CHUNK):
                    yield chunk
        except UndecryptableContent:
            raise
        except Exception as error:
            # Every storage raises errors of its own; that a file is not there is told alike by all.
            is_missing = isinstance(error, FileNotFoundError)
            trouble = "has no such file" if is_missing else f"cannot be read ({type(error).__name__})"
            raise UnreadableAttachment(
                f"The storage '{self.storage}' {trouble}: {self.name}. Restore it, or send anew.", is_missing=is_missing
            ) from error

    def _open_lines(self, file: File) -> Iterator[bytes]:
        vault = reading_vault()
        for line in file:
            yield vault.open(line.rstrip(b"\n"), self.key_id)


def read_blobs(names: Collection[str], *, database: str) -> dict[str, Blob]:
    """Read the attachments of these digests in one query; what lies in a storage is only read when it is needed."""
    if not names:
        return {}
    rows = (
        Attachment.objects.using(database)
        .filter(digest__in=names)
        .order_by("digest", "chunks__number")
        .values_list("digest", "size", "storage", "storage_name", "key_id", "chunks__data")
    )
    blobs: dict[str, Blob] = {}
    buffers: dict[str, BytesIO] = {}
    sealed: dict[tuple[str, int, str], list[bytes]] = {}
    # One statement sees an attachment either in pieces or as a file, never between the two.
    for digest, size, storage, storage_name, key_id, data in rows.iterator(chunk_size=ROWS_AT_ONCE):
        if storage_name:
            blobs[digest] = StoredBytes(storage, storage_name, size, key_id)
        elif key_id != PLAIN:
            sealed.setdefault((digest, size, key_id), []).append(bytes(data or b""))
        else:
            buffers.setdefault(digest, BytesIO()).write(data or b"")
    blobs |= {digest: SealedBytes(tuple(pieces), key, size) for (digest, size, key), pieces in sealed.items()}
    return blobs | {digest: buffer.getvalue() for digest, buffer in buffers.items()}
