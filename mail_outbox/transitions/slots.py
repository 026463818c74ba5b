"""The slots of a mailer with a rate: reserved with the claim, given back when nothing left in them, awaited by one worker."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.db.models import Q

from mail_outbox.core.rates import Rate, Slot, assign_slots, next_slot, slots_within
from mail_outbox.models import MailerState, Recipient, RecipientStatus, UtcNow
from mail_outbox.transitions.claiming import claim
from mail_outbox.transitions.locking import locked_mailer


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The slots that were had, by the entry's primary key, and when the next one opens.

    `now` is the database's clock at a moment between `asked_at` and `read_at` of the monotonic one.
    """

    slots: Mapping[int, Slot]
    now: datetime
    asked_at: float
    read_at: float
    next_at: datetime
    interval: timedelta


def claim_in_slots(
    mailer: str,
    room: int,
    *,
    rate: Rate,
    claim_id: UUID,
    oldest_of: Callable[[int], range],
    worker: str,
    lease: timedelta,
    database: str,
) -> Reservation:
    """Claim up to `room` entries, but no more than have a slot before the horizon, and reserve these slots.

    One transaction that holds the mailer's row, so that no two workers have the same slot. `oldest_of` says how many of
    so many places go to what has waited longest.
    """
    take = partial(claim, mailer, claim_id=claim_id, worker=worker, lease=lease, database=database)
    slots: dict[int, Slot] = {}
    with locked_mailer(mailer, database=database) as state:
        asked_at = time.monotonic()
        now, first, interval = _look(state, rate, database)
        read_at = time.monotonic()
        places = min(room, slots_within(first, now=now, interval=interval))

        def fit(keys: list[int]) -> list[int]:
            assigned = assign_slots(first, _costs(keys, rate, database), now=now, interval=interval)
            slots.update(zip(keys, assigned, strict=False))
            return list(slots)

        if places > 0:
            take(places, oldest=oldest_of(places), fit=fit)
        next_at = max((slot.next_at for slot in slots.values()), default=first)
        if slots:
            MailerState.objects.using(database).filter(alias=mailer).update(next_slot_at=next_at)
    return Reservation(slots=slots, now=now, asked_at=asked_at, read_at=read_at, next_at=next_at, interval=interval)


def reserve_slot(mailer: str, *, rate: Rate, recipients: int, within: timedelta, database: str) -> timedelta | None:
    """Reserve the next slot for one message and return how long it is until then; None where it does not open in time."""
    with locked_mailer(mailer, database=database) as state:
        now, first, interval = _look(state, rate, database)
        if first - now > within:
            return None
        next_at = first + interval * (recipients if rate.per_recipient else 1)
        MailerState.objects.using(database).filter(alias=mailer).update(next_slot_at=next_at)
        return first - now


def refund_slot(mailer: str, slot: Slot, *, database: str) -> bool:
    """Give back a slot in which nothing left; tell whether it was the last one taken, for any other is lost."""
    last = MailerState.objects.using(database).filter(alias=mailer, next_slot_at=slot.next_at)
    return bool(last.update(next_slot_at=slot.opens_at))


def await_slot(mailer: str, *, worker: str, length: timedelta, database: str) -> bool:
    """Tell whether this worker is the one that waits for the mailer's next slot, for so long."""
    free = Q(awaited_until=None) | Q(awaited_until__lte=UtcNow()) | Q(awaited_by=worker)
    states = MailerState.objects.using(database).filter(free, alias=mailer)
    return bool(states.update(awaited_by=worker, awaited_until=UtcNow() + length))


def leave_slot(mailer: str, *, worker: str, database: str) -> None:
    """Let another worker wait for the mailer's next slot."""
    states = MailerState.objects.using(database).filter(alias=mailer, awaited_by=worker)
    states.update(awaited_by="", awaited_until=None)


def _look(state: MailerState, rate: Rate, database: str) -> tuple[datetime, datetime, timedelta]:
    """Return the database's clock, when the mailer's next slot opens, and how far apart they lie."""
    # Asked for only once the row is locked: PostgreSQL's and MySQL's clocks stand still while a statement waits.
    now = MailerState.objects.using(database).filter(alias=state.alias).values_list(UtcNow(), flat=True).get()
    interval = rate.interval(state.allowance_at(now))
    first = next_slot(state.next_slot_at, now=now, interval=interval, per_recipient=rate.per_recipient)
    return now, first, interval


def _costs(keys: Sequence[int], rate: Rate, database: str) -> list[int]:
    if not rate.per_recipient:
        return [1] * len(keys)
    open_recipients = Recipient.objects.using(database).filter(entry_id__in=keys, status=RecipientStatus.OPEN)
    counts = Counter(open_recipients.values_list("entry_id", flat=True))
    return [counts[key] for key in keys]
