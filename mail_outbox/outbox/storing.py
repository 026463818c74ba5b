"""Large attachments out of the database into a storage, and files nobody needs out of that; never in a transaction."""

import logging
import math
import time
from datetime import UTC, datetime
from hashlib import sha256
from tempfile import TemporaryFile
from typing import IO
from uuid import uuid4

from django.core.files import File
from django.core.files.storage import storages
from django.db import DatabaseError

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.models import AttachmentChunk, StoredFile
from mail_outbox.transitions import BATCH
from mail_outbox.vault import PLAIN, get_vault

logger = logging.getLogger("mail_outbox.worker")

STORED_ABOVE = 64 * 1024
"""Smaller attachments stay in the database: a file costs a storage more than it takes away there."""


def store_attachments(*, database: str, until: float = math.inf) -> int:
    """Move large attachments into ATTACHMENT_STORAGE until that moment of the monotonic clock, and return how many were.

    One worker does at a time. What a storage does not take is logged, and stays in the database.
    """
    storage = settings.get_conf().attachment_storage
    if storage is None or transitions.is_file_arriving(database=database):
        return 0
    count = 0
    keys = get_vault().readable
    for digest, key_id in transitions.attachments_above(STORED_ABOVE, key_ids=keys, limit=BATCH, database=database):
        if time.monotonic() >= until:
            break
        # Unguessable, because not every storage is as private as it should be.
        name = f"mail_outbox/{datetime.now(UTC):%Y/%m/%d}/{digest}-{uuid4().hex}"
        file = transitions.announce_file(digest, storage=storage, name=name, database=database)
        if file is not None:
            try:
                count += _move(digest, key_id, file, database)
            except DatabaseError:
                # The attachment may be the file by now, or not: if not, the file is deleted when it is overdue.
                raise
            except Exception as error:  # noqa: BLE001 - every storage raises errors of its own
                _log("attachment not stored", file, error)
                transitions.let_file_go(file, database=database)
                break
    return count


def delete_files(*, database: str, until: float = math.inf) -> int:
    """Delete files that no attachment stands for until that moment of the monotonic clock, and return how many were."""
    count = 0
    while time.monotonic() < until and (file := transitions.take_file_to_delete(database=database)):
        try:
            storages[file.storage].delete(file.name)
        except Exception as error:  # noqa: BLE001 - every storage raises errors of its own
            _log("file not deleted", file, error)
            break
        transitions.forget_file(file, database=database)
        count += 1
    return count


def _move(digest: str, key_id: str, file: StoredFile, database: str) -> bool:
    storage = storages[file.storage]
    with TemporaryFile() as copy:
        size = _copy(digest, key_id, copy, database)
        if size is None:
            transitions.let_file_go(file, database=database)
            return False
        copy.seek(0)
        name = storage.save(file.name, File(copy, name=file.name))
    if name != file.name:
        file.name = name
        transitions.rename_file(file, name, database=database)
    if storage.size(name) != size:
        raise OSError("the storage has not kept all of it")
    is_stored = transitions.note_stored(digest, key_id, file, database=database)
    if not is_stored:
        transitions.let_file_go(file, database=database)
    return is_stored


def _copy(digest: str, key_id: str, copy: IO[bytes], database: str) -> int | None:
    """Copy the attachment piece by piece, and return its size, or None where it is not whole (any more).

    What is sealed stays so, each piece on a line of its own.
    """
    vault = get_vault()
    chunks = AttachmentChunk.objects.using(database).filter(attachment=digest)
    found, number = sha256(), 0
    while (data := chunks.filter(number=number).values_list("data", flat=True).first()) is not None:
        found.update(vault.open(bytes(data), key_id))
        copy.write(data)
        if key_id != PLAIN:
            copy.write(b"\n")
        number += 1
    return copy.tell() if found.hexdigest() == digest else None


def _log(event: str, file: StoredFile, error: Exception) -> None:
    logger.warning(event, extra={"storage": file.storage, "file": file.name, "error": type(error).__name__})
