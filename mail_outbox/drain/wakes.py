"""The one row that coalesces wakes: a drain has been asked for and has not looked yet."""

from datetime import timedelta

from django.db.models import Q

from mail_outbox.models import UtcNow, Wake

WAKE_LEASE = timedelta(seconds=10)
"""How long a wake that nobody answers keeps others from asking again."""


def ask(*, database: str) -> bool:
    """Tell whether this caller is the one that must wake a worker; the others know that a look is still to come."""
    wake = Wake.objects.using(database).filter(pk=Wake.ONLY)
    forgotten = Q(requested_at=None) | Q(requested_at__lt=UtcNow() - WAKE_LEASE)
    return bool(wake.filter(forgotten).update(requested_at=UtcNow()))


def is_asked(*, database: str) -> bool:
    """Tell whether a drain has been asked for since the last one looked."""
    return Wake.objects.using(database).filter(pk=Wake.ONLY, requested_at__isnull=False).exists()


def is_installed(*, database: str) -> bool:
    """Tell whether the one row is there, without which nobody is ever woken."""
    return Wake.objects.using(database).filter(pk=Wake.ONLY).exists()


def answer(*, database: str) -> None:
    """Note that a worker is about to look: whoever commits after this must ask again."""
    if not Wake.objects.using(database).filter(pk=Wake.ONLY).update(requested_at=None):
        # The row is written after migrate; a flush of the tables may have taken it away since.
        install(database=database)


def install(*, database: str) -> None:
    """Write the one row where it is missing."""
    Wake.objects.using(database).bulk_create([Wake(pk=Wake.ONLY)], ignore_conflicts=True)
