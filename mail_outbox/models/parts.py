"""What belongs to an entry and is kept apart from its hot row: content, attachments, recipients."""

from enum import StrEnum

from django.db import models

from mail_outbox.core.envelope import Envelope, blob_names
from mail_outbox.models.entry import TEXT_LENGTH, OutboxEntry


class Attachment(models.Model):
    """Bytes under the name of their SHA-256, stored once however many entries carry them."""

    digest = models.CharField(max_length=64, primary_key=True)
    size = models.PositiveBigIntegerField()
    data = models.BinaryField()
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"attachment {self.digest[:12]} ({self.size} bytes)"


class EntryContent(models.Model):
    """The versioned envelope of one entry; never read by lists or by claims."""

    entry = models.OneToOneField(OutboxEntry, on_delete=models.CASCADE, primary_key=True, related_name="content")
    payload = models.JSONField()
    metadata = models.JSONField(null=True, blank=True)
    digest = models.CharField(max_length=64)
    attachments = models.ManyToManyField(Attachment, related_name="contents")

    def __str__(self) -> str:
        return f"content of entry {self.pk}"

    def envelope(self) -> Envelope:
        """Read the payload and the bytes it refers to: one more query where there are any."""
        names = blob_names(self.payload)
        stored = self.attachments.filter(digest__in=names) if names else ()
        return Envelope(self.payload, {attachment.digest: bytes(attachment.data) for attachment in stored})


class RecipientStatus(StrEnum):
    """What became of one recipient."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    SUPPRESSED = "suppressed"


class Recipient(models.Model):
    """One mailbox an entry is addressed to, and what became of it."""

    entry = models.ForeignKey(OutboxEntry, on_delete=models.CASCADE, related_name="recipients")
    role = models.CharField(max_length=3, choices=[("to", "to"), ("cc", "cc"), ("bcc", "bcc")])
    address = models.CharField(max_length=320, db_index=True)
    status = models.CharField(
        max_length=10,
        choices=[(status.value, status.value) for status in RecipientStatus],
        default=RecipientStatus.OPEN.value,
    )
    code = models.CharField(max_length=64, blank=True)
    text = models.CharField(max_length=TEXT_LENGTH, blank=True)

    def __str__(self) -> str:
        return f"recipient {self.pk} of entry {self.entry_id}"
