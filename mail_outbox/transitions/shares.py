"""How many of a mailer's connections each worker may have open, so that all together keep to the limit."""

from datetime import timedelta

from django.db.models import Sum

from mail_outbox.models import ConnectionShare, UtcNow
from mail_outbox.transitions.locking import locked_mailer


def take_share(mailer: str, *, worker: str, wanted: int, limit: int, length: timedelta, database: str) -> int:
    """Hold up to `wanted` of the mailer's `limit` connections for so long, and return how many.

    The number replaces what the worker held before. It is what the others leave; shares that ran out do not count.
    """
    with locked_mailer(mailer, database=database):
        shares = ConnectionShare.objects.using(database).filter(alias=mailer)
        shares.filter(expires_at__lte=UtcNow()).delete()
        taken = shares.exclude(worker=worker).aggregate(taken=Sum("count"))["taken"] or 0
        granted = max(0, min(wanted, limit - taken))
        if not granted:
            shares.filter(worker=worker).delete()
        elif not shares.filter(worker=worker).update(count=granted, expires_at=UtcNow() + length):
            share = ConnectionShare(alias=mailer, worker=worker, count=granted, expires_at=UtcNow() + length)
            shares.bulk_create([share])
        return granted


def give_share_back(mailer: str, *, worker: str, database: str) -> None:
    """Hold none of the mailer's connections any more."""
    ConnectionShare.objects.using(database).filter(alias=mailer, worker=worker).delete()
