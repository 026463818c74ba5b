"""Contents that are gone before their entries: those of sensitive ones as soon as they are over."""

from collections.abc import Collection, Sequence

from mail_outbox.conf import is_debug
from mail_outbox.core.states import OVER
from mail_outbox.models import EntryContent, OutboxEntry
from mail_outbox.transitions.locking import ANY, change, exactly
from mail_outbox.transitions.pruning import names_used_by, prune_attachments


def forget_sensitive(keys: Collection[int], *, database: str) -> None:
    """Remove content and subject of those of the entries that are sensitive and over; in the transaction that ended them.

    On a development server it stays: the mailbox for developers is where one follows the link to reset a password.
    """
    if not keys or is_debug():
        return
    over = OutboxEntry.objects.using(database).filter(pk__in=keys, sensitive=True, has_content=True, state__in=OVER)
    forget_contents(list(over.values_list("pk", flat=True)), database=database)


def forget_contents(keys: Sequence[int], *, database: str) -> int:
    """Remove contents and subjects, and the attachments that only they need, and return how many attachments that were."""
    if not keys:
        return 0
    names = names_used_by(keys, database=database)
    with exactly(database):
        EntryContent.objects.using(database).filter(pk__in=keys).only("pk").delete()
    change(keys, ANY, database=database, has_content=False, subject="")
    return prune_attachments(names, database=database)
