"""Facts about deliveries, append-only: attempts, delivery events, and addresses not to write to."""

from collections.abc import Iterable
from typing import ClassVar, Self

from django.db import models
from django.db.models import Q

from mail_outbox.conf import erasure_keys
from mail_outbox.core.addresses import normalise
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.pseudonyms import pseudonym
from mail_outbox.models.columns import ExactCharField, PartialIndex, UtcNow
from mail_outbox.models.entry import TEXT_LENGTH, OutboxEntry
from mail_outbox.models.parts import Recipient


class Attempt(models.Model):
    """One try at a mailer and what it came to; a result that arrives late is one row more for the same claim."""

    entry = models.ForeignKey(OutboxEntry, on_delete=models.CASCADE)
    number = models.PositiveIntegerField()
    claim_id = models.UUIDField()
    using = ExactCharField(max_length=100)
    worker = models.CharField(max_length=100, blank=True)
    started_at = models.DateTimeField()
    duration = models.DurationField(null=True, blank=True)
    kind = models.CharField(max_length=9, choices=[(kind.value, kind.value) for kind in Kind])
    code = models.CharField(max_length=64, blank=True)
    text = models.CharField(max_length=TEXT_LENGTH, blank=True)
    provider_message_id = models.CharField(max_length=255, blank=True)

    class Meta:
        indexes = [
            # Not every mailer gives an id, and nobody looks for an empty one.
            PartialIndex(
                fields=["provider_message_id"],
                only=Q(provider_message_id__gt=""),
                name="mail_outbox_attempt_provider",
            ),
        ]
        constraints = [
            # A settle whose COMMIT was answered too late is written again: the same fact must not stand twice.
            models.UniqueConstraint(fields=["entry", "claim_id", "kind"], name="mail_outbox_attempt_once"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of entry {self.entry_id}: {self.kind}"


class DeliveryEvent(models.Model):
    """What a provider told us later about one recipient: delivered, bounced, complained, opened …"""

    entry = models.ForeignKey(OutboxEntry, on_delete=models.CASCADE, related_name="delivery_events")
    recipient = models.ForeignKey(Recipient, null=True, blank=True, on_delete=models.CASCADE)
    esp = models.CharField(max_length=50)
    event_id = models.CharField(max_length=200)
    event_type = models.CharField(max_length=30)
    happened_at = models.DateTimeField()
    received_at = models.DateTimeField()
    text = models.CharField(max_length=TEXT_LENGTH, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["esp", "event_id"], name="mail_outbox_event_once")]

    def __str__(self) -> str:
        return f"{self.event_type} for entry {self.entry_id}"


class SuppressionQuerySet(models.QuerySet["Suppression"]):
    """Suppressions by whom they are for."""

    def of(self, address: str) -> Self:
        """Return what keeps mail from the address, also where its owner has been erased."""
        return self.filter(address__in=list(names_of([normalise(address)])))

    def in_force(self) -> Self:
        """Return those that have not run out."""
        return self.filter(Q(until=None) | Q(until__gt=UtcNow()))


def names_of(addresses: Iterable[str]) -> dict[str, str]:
    """Map all that the normalised addresses may be suppressed under, which is they and their pseudonyms, to them."""
    keys = erasure_keys()
    return {name: each for each in addresses for name in (each, *(pseudonym(each, key) for key in keys))}


class Suppression(models.Model):
    """An address not to write to (or a pseudonym of it, once its owner was erased), why, since when, and until when (for ever where that is empty)."""

    address = models.CharField(max_length=320)
    reason = models.CharField(max_length=TEXT_LENGTH)
    since = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager[Self]] = SuppressionQuerySet.as_manager()

    class Meta:
        # Not unique=True: MySQL's backend warns of unique texts over 255, which today's row format takes.
        constraints = [models.UniqueConstraint(fields=["address"], name="mail_outbox_suppression_once")]

    def __str__(self) -> str:
        return f"suppression {self.pk}"
