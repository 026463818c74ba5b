"""The tables of the outbox and their named queries."""

from mail_outbox.models.attachments import (
    Attachment,
    AttachmentChunk,
    AttachmentUse,
    StoredBytes,
    StoredFile,
    read_blobs,
)
from mail_outbox.models.columns import UtcNow
from mail_outbox.models.counts import AttemptCount, CountMark
from mail_outbox.models.entry import SUBJECT_LENGTH, TEMPLATE_LENGTH, TEXT_LENGTH, OutboxEntry, label_of
from mail_outbox.models.facts import Attempt, DeliveryEvent, Suppression, names_of
from mail_outbox.models.making import new
from mail_outbox.models.parts import EntryContent, Recipient, RecipientStatus
from mail_outbox.models.running import ALL_MAILERS, ConnectionShare, Instance, MailerState, Wake, Worker

__all__ = [
    "ALL_MAILERS",
    "SUBJECT_LENGTH",
    "TEMPLATE_LENGTH",
    "TEXT_LENGTH",
    "Attachment",
    "AttachmentChunk",
    "AttachmentUse",
    "Attempt",
    "AttemptCount",
    "ConnectionShare",
    "CountMark",
    "DeliveryEvent",
    "EntryContent",
    "Instance",
    "MailerState",
    "OutboxEntry",
    "Recipient",
    "RecipientStatus",
    "StoredBytes",
    "StoredFile",
    "Suppression",
    "UtcNow",
    "Wake",
    "Worker",
    "label_of",
    "names_of",
    "new",
    "read_blobs",
]
