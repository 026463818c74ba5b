"""The tables of the outbox and their named queries."""

from mail_outbox.models.columns import UtcNow
from mail_outbox.models.entry import SUBJECT_LENGTH, TEXT_LENGTH, OutboxEntry, label_of
from mail_outbox.models.facts import Attempt, DeliveryEvent, Suppression
from mail_outbox.models.parts import Attachment, EntryContent, Recipient, RecipientStatus
from mail_outbox.models.running import ALL_MAILERS, MailerState, Wake, Worker

__all__ = [
    "ALL_MAILERS",
    "SUBJECT_LENGTH",
    "TEXT_LENGTH",
    "Attachment",
    "Attempt",
    "DeliveryEvent",
    "EntryContent",
    "MailerState",
    "OutboxEntry",
    "Recipient",
    "RecipientStatus",
    "Suppression",
    "UtcNow",
    "Wake",
    "Worker",
    "label_of",
]
