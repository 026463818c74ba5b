"""What belongs to an entry and is kept apart from its hot row: content and recipients."""

from enum import StrEnum
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models

from mail_outbox.core.envelope import Envelope, blob_names
from mail_outbox.models.attachments import Attachment, AttachmentUse, read_blobs
from mail_outbox.models.entry import TEXT_LENGTH, OutboxEntry
from mail_outbox.vault import PLAIN, Vault, reading_vault


class EntryContent(models.Model):
    """The versioned envelope of one entry; never read by lists or by claims.

    Where there is a `key_id`, payload and metadata are sealed together in `payload`. The digest is that of the plain payload, for
    entries with an idempotency key; the others, which are compared with none, have an empty one.
    """

    entry = models.OneToOneField(OutboxEntry, on_delete=models.CASCADE, primary_key=True, related_name="content")
    payload = models.JSONField()
    metadata = models.JSONField(null=True, blank=True)
    digest = models.CharField(max_length=64, blank=True, default="", db_default="")
    key_id = models.CharField(max_length=12, blank=True, default="", db_default="")
    traceparent = models.CharField(max_length=55, blank=True, default="", db_default="")
    attachments = models.ManyToManyField(Attachment, through=AttachmentUse, related_name="contents")

    def __str__(self) -> str:
        return f"content of entry {self.pk}"

    def close(self, payload: dict[str, Any], metadata: dict[str, Any] | None, vault: Vault) -> None:
        """Put payload and metadata on the row, sealed where there are keys."""
        self.key_id = vault.key_id
        if vault.key_id == PLAIN:
            self.payload, self.metadata = payload, metadata
        else:
            self.payload, self.metadata = vault.seal_json({"payload": payload, "metadata": metadata}), None

    def opened(self, vault: Vault | None = None) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return payload and metadata; raises UndecryptableContent."""
        if self.key_id == PLAIN:
            return self.payload, self.metadata
        both = (vault or reading_vault()).open_json(self.payload, self.key_id)
        return both["payload"], both["metadata"]

    def forget_entry(self) -> None:
        """Let go of the entry it was read with, so that both are freed as soon as nobody needs the entry."""
        # Each would hold the other until the garbage collector looks at what is old, and that may be never.
        self._state.fields_cache.pop("entry", None)

    def envelope(self) -> Envelope:
        """Read the payload and the bytes it refers to: one more query where there are any; raises UndecryptableContent."""
        database = self._state.db or DEFAULT_DB_ALIAS
        payload, _ = self.opened()
        return Envelope(payload, read_blobs(blob_names(payload), database=database))


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
    address = models.CharField(max_length=320)
    status = models.CharField(
        max_length=10,
        choices=[(status.value, status.value) for status in RecipientStatus],
        default=RecipientStatus.OPEN.value,
        db_default=RecipientStatus.OPEN.value,
    )
    code = models.CharField(max_length=64, blank=True, default="", db_default="")
    text = models.CharField(max_length=TEXT_LENGTH, blank=True, default="", db_default="")

    class Meta:
        indexes = [models.Index(fields=["address", "entry"], name="mail_outbox_recipient_address")]

    def __str__(self) -> str:
        return f"recipient {self.pk} of entry {self.entry_id}"
