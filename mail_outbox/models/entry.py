"""The hot, narrow row of the outbox, and its named queries."""

import json
from typing import ClassVar, Self
from uuid import UUID, uuid4

from django.apps import apps
from django.core.mail import EmailMessage
from django.db import connections, models
from django.db.models import Q
from django.db.models.functions import Cast

from mail_outbox.conf import message_classes
from mail_outbox.core import envelope
from mail_outbox.core.addresses import normalise
from mail_outbox.core.errors import UnreadableEnvelope
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import FINISHED, WAITING, State
from mail_outbox.models.columns import ExactCharField, StateIndex, UtcNow

SUBJECT_LENGTH = 255
TEXT_LENGTH = 256


class EntryQuerySet(models.QuerySet["OutboxEntry"]):
    """Entries by what one wants to know of them; filters have names."""

    def queued(self, mailer: str) -> Self:
        """Return what the mailer may send now."""
        return self.filter(state=State.QUEUED, using=mailer)

    def due(self) -> Self:
        """Return what should have gone by now: queued, or scheduled for a moment that has passed."""
        return self.filter(Q(state=State.QUEUED) | Q(state=State.SCHEDULED, due_at__lte=UtcNow()))

    def due_to_promote(self) -> Self:
        """Return the scheduled entries whose time has come."""
        return self.filter(state=State.SCHEDULED, due_at__lte=UtcNow())

    def due_to_expire(self, state: State) -> Self:
        """Return the entries in this state that are past their expiry."""
        return self.filter(state=state, expires_at__lte=UtcNow())

    def stuck(self) -> Self:
        """Return what is claimed by a worker whose lease ran out."""
        return self.filter(state=State.SENDING, lease_expires_at__lte=UtcNow())

    def claimed(self, claim_id: UUID) -> Self:
        """Return what was claimed together and is not settled yet."""
        return self.filter(state=State.SENDING, claim_id=claim_id)

    def waiting(self) -> Self:
        """Return what has not been claimed yet."""
        return self.filter(state__in=WAITING)

    def finished(self) -> Self:
        """Return what no worker will touch again by itself."""
        return self.filter(state__in=FINISHED)

    def failed(self) -> Self:
        """Return what will not go by itself."""
        return self.filter(state=State.FAILED)

    def held(self) -> Self:
        """Return what waits for a person."""
        return self.filter(state=State.HELD)

    def to(self, address: str) -> Self:
        """Return what is addressed to the mailbox, as to, cc or bcc, in any spelling of case."""
        return self.filter(recipients__address=normalise(address)).distinct()

    def tagged(self, tag: str) -> Self:
        """Return what carries the tag."""
        if connections[self.db].features.supports_json_field_contains:
            return self.filter(tags__contains=[tag])
        return self.alias(tags_text=Cast("tags", models.TextField())).filter(tags_text__contains=json.dumps(tag))

    def about(self, related: str) -> Self:
        """Return what is related to the object of that label, `app.model:pk`."""
        return self.filter(related=related)


class OutboxEntry(models.Model):
    """One message and what became of it.

    `rank` is the priority negated, because the index of the claim has to ascend in every column. `first_due_at` is
    when the entry was first due, or last retried by a person: its age counts from there.
    """

    uuid = models.UUIDField(default=uuid4, unique=True, editable=False)
    state = models.CharField(max_length=9, choices=[(state.value, state.value) for state in State])
    state_reason = models.CharField(max_length=TEXT_LENGTH, blank=True)
    using = ExactCharField(max_length=100)
    rank = models.SmallIntegerField(default=0)
    due_at = models.DateTimeField()
    first_due_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(null=True, blank=True)
    on_ambiguous = models.CharField(max_length=5)
    claim_id = models.UUIDField(null=True, blank=True)
    worker = models.CharField(max_length=100, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    idempotency_key = ExactCharField(max_length=255, null=True, blank=True, unique=True)
    message_id = models.CharField(max_length=255, db_index=True)
    date = models.DateTimeField()
    resent_from = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="resent_as")
    related = models.CharField(max_length=200, blank=True, db_index=True)
    tags = models.JSONField(default=list, blank=True)
    subject = models.CharField(max_length=SUBJECT_LENGTH, blank=True)
    sensitive = models.BooleanField(default=False)
    outcome_kind = models.CharField(max_length=9, blank=True, choices=[(kind.value, kind.value) for kind in Kind])
    outcome_code = models.CharField(max_length=64, blank=True)
    outcome_text = models.CharField(max_length=TEXT_LENGTH, blank=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager[Self]] = EntryQuerySet.as_manager()

    is_duplicate: bool = False
    """True on what enqueue returned for an idempotency key that was already there."""
    committed: bool = False
    """True once the transaction that enqueued this very instance has committed."""

    class Meta:
        verbose_name = "outbox entry"
        verbose_name_plural = "outbox entries"
        indexes = [
            StateIndex(fields=["using", "rank", "due_at", "id"], state=State.QUEUED, name="mail_outbox_entry_claim"),
            StateIndex(fields=["using", "due_at", "id"], state=State.QUEUED, name="mail_outbox_entry_oldest"),
            StateIndex(fields=["due_at", "id"], state=State.SCHEDULED, name="mail_outbox_entry_due"),
            StateIndex(fields=["lease_expires_at", "id"], state=State.SENDING, name="mail_outbox_entry_lease"),
            # One for each state: SQLite does not use a partial index over `state IN (…)` with parameters.
            StateIndex(fields=["expires_at", "id"], state=State.QUEUED, name="mail_outbox_entry_expiry_q"),
            StateIndex(fields=["expires_at", "id"], state=State.SCHEDULED, name="mail_outbox_entry_expiry_s"),
        ]

    def __str__(self) -> str:
        return f"entry {self.pk} ({self.state})"

    @property
    def priority(self) -> int:
        """Return the priority as given to enqueue, -100…100, higher first."""
        return -self.rank

    @property
    def related_object(self) -> models.Model | None:
        """Fetch the object the entry is related to; None where there is none, or none any more."""
        label, _, pk = self.related.partition(":")
        try:
            model = apps.get_model(label)
        except (LookupError, ValueError):
            return None
        found: models.Model | None = model._default_manager.filter(pk=pk).first()
        return found

    @property
    def provider_message_id(self) -> str:
        """Return the id the provider gave the accepted message, or an empty text."""
        known = self.attempt_set.exclude(provider_message_id="").order_by("-number")
        return known.values_list("provider_message_id", flat=True).first() or ""

    def message(self) -> EmailMessage:
        """Rebuild the message as the caller gave it; raises UnreadableEnvelope where that cannot be done."""
        try:
            content = self.content
        except models.ObjectDoesNotExist as error:
            raise UnreadableEnvelope(f"Entry {self.pk} has no content any more.") from error
        return envelope.load(content.envelope(), classes=message_classes())


def label_of(instance: models.Model) -> str:
    """Return the text that stands for a model instance in `related`: `app.model:pk`."""
    return f"{instance._meta.label_lower}:{instance.pk}"
