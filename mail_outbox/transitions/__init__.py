"""Every change of state; nobody else writes `state`."""

from mail_outbox.transitions.acting import cancel, change_mailer, hold, mark_sent, release, reschedule, retry
from mail_outbox.transitions.claiming import claim, claim_entry, expire, may_wait, promote
from mail_outbox.transitions.counting import BOUNDS, COUNT_BATCH, all_counted, count_attempts
from mail_outbox.transitions.enqueueing import Draft, insert, replace
from mail_outbox.transitions.erasing import (
    EraseResult,
    attachments_after,
    attachments_with,
    entries_of,
    erase_entries,
    erase_mentions,
    erase_suppressions,
    mentions_of,
)
from mail_outbox.transitions.gathering import Gathered
from mail_outbox.transitions.locking import BATCH, DATABASE_AWAY, is_unmigrated, share_entry
from mail_outbox.transitions.mailers import (
    clear_pause,
    note_outcomes,
    pause,
    take_probe,
    untake_probe,
)
from mail_outbox.transitions.masking import mask_texts
from mail_outbox.transitions.pruning import (
    PruneResult,
    count_prunable,
    prune_contents,
    prune_entries,
    prune_facts,
    prune_unused_attachments,
)
from mail_outbox.transitions.quarantining import due_before, quarantine, suspicious
from mail_outbox.transitions.rescuing import rescue
from mail_outbox.transitions.routing import REROUTE_BATCH, reroute
from mail_outbox.transitions.sealing import (
    RotateResult,
    attachments_to_rotate,
    bring_back,
    count_to_rotate,
    rotate_attachment,
    rotate_contents,
)
from mail_outbox.transitions.settling import Settlement, give_back, settle
from mail_outbox.transitions.shares import give_share_back, take_share
from mail_outbox.transitions.slots import (
    Reservation,
    await_slot,
    claim_in_slots,
    leave_slot,
    refund_slot,
    reserve_slot,
)
from mail_outbox.transitions.storing import (
    announce_file,
    attachments_above,
    count_leaving_files,
    forget_file,
    is_file_arriving,
    let_file_go,
    note_stored,
    rename_file,
    take_file_to_delete,
)
from mail_outbox.transitions.streaks import follow_streaks
from mail_outbox.transitions.suppressing import is_anybody_suppressed, suppress, suppressed_among, unsuppress

__all__ = [
    "BATCH",
    "BOUNDS",
    "COUNT_BATCH",
    "DATABASE_AWAY",
    "REROUTE_BATCH",
    "Draft",
    "EraseResult",
    "Gathered",
    "PruneResult",
    "Reservation",
    "RotateResult",
    "Settlement",
    "all_counted",
    "announce_file",
    "attachments_above",
    "attachments_after",
    "attachments_to_rotate",
    "attachments_with",
    "await_slot",
    "bring_back",
    "cancel",
    "change_mailer",
    "claim",
    "claim_entry",
    "claim_in_slots",
    "clear_pause",
    "count_attempts",
    "count_leaving_files",
    "count_prunable",
    "count_to_rotate",
    "due_before",
    "entries_of",
    "erase_entries",
    "erase_mentions",
    "erase_suppressions",
    "expire",
    "follow_streaks",
    "forget_file",
    "give_back",
    "give_share_back",
    "hold",
    "insert",
    "is_anybody_suppressed",
    "is_file_arriving",
    "is_unmigrated",
    "leave_slot",
    "let_file_go",
    "mark_sent",
    "mask_texts",
    "may_wait",
    "mentions_of",
    "note_outcomes",
    "note_stored",
    "pause",
    "promote",
    "prune_contents",
    "prune_entries",
    "prune_facts",
    "prune_unused_attachments",
    "quarantine",
    "refund_slot",
    "release",
    "rename_file",
    "replace",
    "reroute",
    "reschedule",
    "rescue",
    "reserve_slot",
    "retry",
    "rotate_attachment",
    "rotate_contents",
    "settle",
    "share_entry",
    "suppress",
    "suppressed_among",
    "suspicious",
    "take_file_to_delete",
    "take_probe",
    "take_share",
    "unsuppress",
    "untake_probe",
]
