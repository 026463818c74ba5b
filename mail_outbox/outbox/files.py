"""Files as attachments: named when they are attached, read a piece at a time when the message is enqueued."""

import mimetypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, Any

from django.core.files.storage import Storage, storages
from django.core.mail import EmailAttachment, EmailMessage
from django.core.mail.message import DEFAULT_ATTACHMENT_MIME_TYPE

from mail_outbox.core.envelope import Stream
from mail_outbox.core.envelope.streams import CHUNK
from mail_outbox.core.errors import InvalidMessage


@dataclass(frozen=True, slots=True)
class FileReference(Stream):
    """A file by its path, or by its name in a storage; raises InvalidMessage where it cannot be read."""

    name: str
    storage: Storage | str | None = None

    def __str__(self) -> str:
        where = f" in the storage '{self.storage}'" if isinstance(self.storage, str) else ""
        return f"The file '{self.name}'{where}"

    @property
    def size(self) -> int:
        """Return how many bytes the file has."""
        with self._naming_the_file():
            storage = self._storage()
            return os.stat(self.name).st_size if storage is None else storage.size(self.name)  # noqa: PTH116

    def chunks(self) -> Iterator[bytes]:
        """Read the file from the beginning, in pieces of at most CHUNK."""
        with self._naming_the_file():
            storage = self._storage()
            file: IO[Any] = open(self.name, "rb") if storage is None else storage.open(self.name)  # noqa: PTH123, SIM115
            with file:
                while chunk := file.read(CHUNK):
                    yield chunk

    def _storage(self) -> Storage | None:
        return storages[self.storage] if isinstance(self.storage, str) else self.storage

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Every storage raises errors of its own.
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise InvalidMessage(f"{self} cannot be read: {reason}.") from error


def attach_file(
    message: EmailMessage,
    path_or_name: str | os.PathLike[str],
    *,
    storage: Storage | str | None = None,
    filename: str | None = None,
    mimetype: str | None = None,
) -> None:
    """Attach a file that is read a piece at a time when the message is enqueued, and never in memory whole until then.

    A path, or with `storage` (one of Django's, or its alias in STORAGES) the name of a file in it. `filename` and
    `mimetype` are guessed as Django's own `attach_file` does. Nothing is looked at before the message is enqueued, which
    raises InvalidMessage where the file cannot be read. Only the outbox can send such a message, not the message itself.
    """
    name = os.fspath(path_or_name)
    filename = filename or PurePath(name).name
    mimetype = mimetype or mimetypes.guess_type(filename)[0] or DEFAULT_ATTACHMENT_MIME_TYPE
    attachment = EmailAttachment(filename, FileReference(name, storage), mimetype)  # type: ignore[arg-type]
    message.attachments.append(attachment)
