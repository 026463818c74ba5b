"""Every change of state; nobody else writes `state`."""

from mail_outbox.transitions.acting import cancel, hold, release, retry
from mail_outbox.transitions.claiming import claim, claim_entry, expire, promote
from mail_outbox.transitions.enqueueing import Draft, insert, replace
from mail_outbox.transitions.locking import BATCH, DATABASE_AWAY
from mail_outbox.transitions.mailers import (
    clear_pause,
    note_outcomes,
    pause,
    take_probe,
    untake_probe,
)
from mail_outbox.transitions.rescuing import rescue
from mail_outbox.transitions.settling import Settlement, settle

__all__ = [
    "BATCH",
    "DATABASE_AWAY",
    "Draft",
    "Settlement",
    "cancel",
    "claim",
    "claim_entry",
    "clear_pause",
    "expire",
    "hold",
    "insert",
    "note_outcomes",
    "pause",
    "promote",
    "release",
    "replace",
    "rescue",
    "retry",
    "settle",
    "take_probe",
    "untake_probe",
]
