"""Everything under the first key: what was stored before there were keys, or under one that is to go."""

from collections.abc import Iterator
from functools import reduce
from tempfile import TemporaryFile

from mail_outbox import conf as settings
from mail_outbox import transitions
from mail_outbox.core.envelope.streams import CHUNK
from mail_outbox.core.errors import InvalidOption, UnreadableEnvelope
from mail_outbox.models import Attachment, StoredBytes
from mail_outbox.outbox.delivering import refuse_in_transaction
from mail_outbox.outbox.options import check_database
from mail_outbox.outbox.twins import has_twin
from mail_outbox.transitions import BATCH, RotateResult
from mail_outbox.vault import PLAIN, Vault, get_vault


@has_twin
def rotate_keys(*, batch_size: int = 100, dry_run: bool = False, database: str | None = None) -> RotateResult:
    """Seal all contents and attachments under the first of ENCRYPTION_KEYS, and return the counts.

    Works in small transactions of its own, beside the workers; interrupted, it goes on where it was when called again. What
    is `undecryptable` is left as it is. A file in a storage comes back into the database, from where the sweep moves it out
    again; `dry_run` only counts. Raises InvalidOption where there are no keys, ImproperlyConfigured for bad ones, and
    InTransaction.
    """
    steps = rotate_in_steps(batch_size=batch_size, dry_run=dry_run, database=database)
    return reduce(RotateResult.plus, steps, RotateResult())


def rotate_in_steps(
    *, batch_size: int = 100, dry_run: bool = False, database: str | None = None
) -> Iterator[RotateResult]:
    """Do the same step by step, and yield the counts of each."""
    vault = get_vault()
    if vault.key_id == PLAIN:
        raise InvalidOption("There is no key to seal with. Set MAIL_OUTBOX['ENCRYPTION_KEYS'].")
    if not 1 <= batch_size <= BATCH:
        raise InvalidOption(f"batch_size must be a whole number from 1 to {BATCH}, not {batch_size!r}.")
    conf = settings.get_conf()
    databases = conf.databases if database is None else (check_database(database, conf),)
    if dry_run:
        yield from (transitions.count_to_rotate(vault, database=alias) for alias in databases)
        return
    refuse_in_transaction("rotate_keys", databases=databases)
    for alias in databases:
        yield from _contents(vault, batch_size, alias)
        yield from _attachments(vault, batch_size, alias)


def _contents(vault: Vault, batch_size: int, database: str) -> Iterator[RotateResult]:
    after: int | None = 0
    while after is not None:
        step, after = transitions.rotate_contents(vault, after=after, limit=batch_size, database=database)
        yield step


def _attachments(vault: Vault, batch_size: int, database: str) -> Iterator[RotateResult]:
    after = ""
    while batch := transitions.attachments_to_rotate(vault, after=after, limit=batch_size, database=database):
        for attachment in batch:
            try:
                rotate = _rotate_file if attachment.storage_name else transitions.rotate_attachment
                yield RotateResult(attachments=int(rotate(attachment, vault, database=database)))
            except UnreadableEnvelope:
                yield RotateResult(undecryptable=1)
        after = batch[-1].digest


def _rotate_file(attachment: Attachment, vault: Vault, *, database: str) -> bool:
    stored = StoredBytes(attachment.storage, attachment.storage_name, attachment.size, attachment.key_id)
    # The network first, the transaction then.
    with TemporaryFile() as copy:
        for chunk in stored.chunks():
            copy.write(chunk)
        copy.seek(0)
        return transitions.bring_back(attachment, iter(lambda: copy.read(CHUNK), b""), vault, database=database)
