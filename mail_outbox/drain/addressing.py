"""Whom the messages of a claim go to: the recipients still open, but for those who are suppressed by now."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from django.core.mail import EmailMessage
from django.db.models import Exists

from mail_outbox import transitions
from mail_outbox.core.addresses import mailboxes, normalise
from mail_outbox.core.envelope import Envelope
from mail_outbox.core.envelope.editing import recipients_of
from mail_outbox.core.outcomes import SUPPRESSED, Ambiguous, Cancelled, Outcome
from mail_outbox.delivery import Parcel
from mail_outbox.models import OutboxEntry, Recipient, RecipientStatus, Suppression
from mail_outbox.transitions.histories import is_repeated


def is_list_there(database: str) -> Exists:
    """Return the expression that tells, with the entries, whether anybody is suppressed at all."""
    return Exists(Suppression.objects.using(database))


def read_recipients_left(entries: Sequence[OutboxEntry], *, database: str) -> dict[int, frozenset[str]]:
    """Return the open recipients of the entries where some have had their answer, or were left out when it was enqueued.

    First attempts for everybody cost no query.
    """
    known = [entry.pk for entry in entries if entry.has_suppressed or is_repeated(entry)]
    if not known:
        return {}
    rows = Recipient.objects.using(database).filter(entry_id__in=known)
    left: dict[int, set[str]] = {}
    answered: set[int] = set()
    for key, address, status in rows.values_list("entry_id", "address", "status"):
        if status == RecipientStatus.OPEN:
            left.setdefault(key, set()).add(address)
        else:
            answered.add(key)
    return {key: frozenset(left.get(key, ())) for key in answered}


def read_suppressed(
    entries: Sequence[OutboxEntry],
    envelopes: Mapping[int, object],
    left: Mapping[int, frozenset[str]],
    *,
    database: str,
) -> dict[int, frozenset[str]]:
    """Return whom of their recipients the entries must not go to: one query for all, and none where nobody is suppressed."""
    asking = [entry.pk for entry in entries if vars(entry)["is_list_there"] and not entry.ignore_suppression]
    if not asking:
        return {}
    addressed = {key: left[key] if key in left else _addressed(envelopes[key]) for key in asking}
    found = transitions.suppressed_among(frozenset().union(*addressed.values()), database=database)
    return {key: theirs for key in asking if (theirs := addressed[key].intersection(found))}


def _addressed(envelope: object) -> frozenset[str]:
    return frozenset(map(normalise, recipients_of(envelope.payload))) if isinstance(envelope, Envelope) else frozenset()


def leave_out(parcel: Parcel, suppressed: frozenset[str]) -> Parcel:
    """Return the parcel for the others alone."""
    return replace(parcel, only=_those_of(parcel.message, parcel.only) - suppressed)


def _those_of(message: EmailMessage, only: frozenset[str] | None) -> frozenset[str]:
    return frozenset(mailbox.address for mailbox in mailboxes(message)) if only is None else only


def note_left_out(outcome: Outcome, suppressed: frozenset[str]) -> Outcome:
    """Return the outcome with those who were left out."""
    if not suppressed:
        return outcome
    if isinstance(outcome, Ambiguous):
        # They may be written to again by the next attempt, which has another key then.
        outcome = replace(outcome, key_lifetime=None)
    return replace(outcome, withheld={**outcome.withheld, **dict.fromkeys(suppressed, SUPPRESSED)})


NOBODY_LEFT = Cancelled(code=SUPPRESSED)
"""The outcome of an attempt whose recipients are all suppressed."""
