"""The hot, narrow row of the outbox, and its named queries."""

import json
from datetime import timedelta
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
from mail_outbox.models.columns import ExactCharField, PartialIndex, StateIndex, UniqueWhereGiven, UtcNow

SUBJECT_LENGTH = 255
TEMPLATE_LENGTH = 200
TEXT_LENGTH = 256


class EntryQuerySet(models.QuerySet["OutboxEntry"]):
    """Entries by what one wants to know of them; filters have names."""

    def queued(self, mailer: str) -> Self:
        """Return what the mailer may send now."""
        return self.filter(state=State.QUEUED, using=mailer)

    def to_reroute(self, route: str, mailer: str) -> Self:
        """Return what waits for the mailer, though another one of the route may send it as well."""
        # For the index: SQLite wants its condition repeated, hence the empty text, and a comparison where
        # Django 5.2 would write NOT is_pinned, hence the Value.
        return self.queued(mailer).filter(route=route, is_pinned=models.Value(False)).exclude(route="")  # noqa: FBT003

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

    def finished_for(self, age: timedelta, *, state: State) -> Self:
        """Return what came to this end so long ago, or longer."""
        return self.filter(state=state, finished_at__lte=UtcNow() - age)

    def sent_for(self, age: timedelta) -> Self:
        """Return what was sent so long ago, or longer, and still has its content."""
        return self.finished_for(age, state=State.SENT).filter(has_content=True)

    def ended(self, state: State) -> Self:
        """Return what has come to rest in this state, by an index that is in order of when it did."""
        # SQLite uses a partial index only for a query that repeats its condition.
        return self.filter(state=state, finished_at__isnull=False)

    def troubled(self) -> Self:
        """Return what got any answer but a plain success the last time."""
        # Two terms, as in the index: SQLite does not see that `NOT IN` with parameters is the same.
        return self.exclude(outcome_kind="").exclude(outcome_kind=Kind.SENT)

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
        # SQLite uses a partial index only for a query that repeats its condition.
        return self.filter(related=related).exclude(related="")


class OutboxEntry(models.Model):
    """One message and what became of it.

    `rank` is the priority negated, because the index of the claim has to ascend in every column. `first_due_at` is
    when the entry was first due, or last put back by a person: its age counts from there. `using` is the mailer that sends
    it; `route`, where there is one, the route by which another may do so, until `is_pinned`: somebody may have it already.
    Until `recognised_until` the provider knows by its key that an attempt repeats one whose end nobody knows.
    `template` is the name that was given to `enqueue_template`. With `ignore_suppression` it goes to suppressed addresses,
    too; `has_suppressed` where enqueue has left out some recipients. `has_content` is False once the content was pruned or erased.
    """

    uuid = models.UUIDField(default=uuid4, unique=True, editable=False)
    state = models.CharField(max_length=9, choices=[(state.value, state.value) for state in State])
    state_reason = models.CharField(max_length=TEXT_LENGTH, blank=True, default="", db_default="")
    using = ExactCharField(max_length=100)
    route = ExactCharField(max_length=100, blank=True, default="", db_default="")
    is_pinned = models.BooleanField(default=False, db_default=False)
    rank = models.SmallIntegerField(default=0, db_default=0)
    due_at = models.DateTimeField()
    first_due_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0, db_default=0)
    max_attempts = models.PositiveIntegerField(null=True, blank=True)
    on_ambiguous = models.CharField(max_length=5)
    claim_id = models.UUIDField(null=True, blank=True)
    worker = models.CharField(max_length=100, blank=True, default="", db_default="")
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    recognised_until = models.DateTimeField(null=True, blank=True)
    idempotency_key = ExactCharField(max_length=255, null=True, blank=True)
    message_id = models.CharField(max_length=255)
    date = models.DateTimeField()
    resent_from = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="resent_as", db_index=False
    )
    related = models.CharField(max_length=200, blank=True, default="", db_default="")
    tags = models.JSONField(default=list, blank=True)
    template = ExactCharField(max_length=TEMPLATE_LENGTH, blank=True, default="", db_default="")
    subject = models.CharField(max_length=SUBJECT_LENGTH, blank=True)
    sensitive = models.BooleanField(default=False, db_default=False)
    ignore_suppression = models.BooleanField(default=False, db_default=False)
    has_suppressed = models.BooleanField(default=False, db_default=False)
    outcome_kind = models.CharField(
        max_length=9, blank=True, choices=[(kind.value, kind.value) for kind in Kind], default="", db_default=""
    )
    outcome_code = models.CharField(max_length=64, blank=True, default="", db_default="")
    outcome_text = models.CharField(max_length=TEXT_LENGTH, blank=True, default="", db_default="")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    has_content = models.BooleanField(default=True, db_default=True)

    objects: ClassVar[models.Manager[Self]] = EntryQuerySet.as_manager()

    is_duplicate: bool = False
    """True on what enqueue returned for an idempotency key that was already there."""
    committed: bool = False
    """True once the transaction that enqueued this very instance has committed."""

    class Meta:
        verbose_name = "outbox entry"
        verbose_name_plural = "outbox entries"
        permissions = [
            ("view_content", "Can see the content of mails"),
            ("act_on_entries", "Can retry, resend, cancel, hold and release mails"),
            ("operate_mailers", "Can pause and resume mailers"),
        ]
        # Not `unique=True` or `db_index=True`, which on PostgreSQL make a second index each, for patterns nobody looks for.
        constraints = [UniqueWhereGiven(fields=["idempotency_key"], name="mail_outbox_entry_once")]
        # Every enqueue pays for each index that its row stands in: what a new row does not have yet, is left out.
        indexes = [
            models.Index(fields=["message_id"], name="mail_outbox_entry_message_id"),
            PartialIndex(fields=["related"], only=~Q(related=""), name="mail_outbox_entry_related"),
            PartialIndex(fields=["resent_from"], only=Q(resent_from__isnull=False), name="mail_outbox_entry_resent"),
            models.Index(fields=["using", "id"], name="mail_outbox_entry_using"),
            models.Index(fields=["created_at", "id"], name="mail_outbox_entry_created"),
            PartialIndex(
                fields=["state", "finished_at", "id", "using"],
                only=Q(finished_at__isnull=False),
                name="mail_outbox_entry_ended",
            ),
            PartialIndex(
                fields=["id"],
                only=~Q(outcome_kind="") & ~Q(outcome_kind=Kind.SENT.value),
                otherwise=["outcome_kind", "id"],
                name="mail_outbox_entry_troubled",
            ),
            StateIndex(fields=["using", "rank", "due_at", "id"], state=State.QUEUED, name="mail_outbox_entry_claim"),
            StateIndex(fields=["using", "due_at", "id"], state=State.QUEUED, name="mail_outbox_entry_oldest"),
            StateIndex(
                fields=["route", "is_pinned", "using", "rank", "due_at", "id"],
                state=State.QUEUED,
                filled="route",
                name="mail_outbox_entry_reroute",
            ),
            StateIndex(fields=["due_at", "id"], state=State.SCHEDULED, name="mail_outbox_entry_due"),
            StateIndex(fields=["lease_expires_at", "id"], state=State.SENDING, name="mail_outbox_entry_lease"),
            # One for each state: SQLite does not use a partial index over `state IN (…)` with parameters.
            PartialIndex(
                fields=["expires_at", "id"],
                only=Q(state=State.QUEUED.value, expires_at__isnull=False),
                otherwise=["state", "expires_at", "id"],
                name="mail_outbox_entry_expiry_q",
            ),
            PartialIndex(
                fields=["expires_at", "id"],
                only=Q(state=State.SCHEDULED.value, expires_at__isnull=False),
                otherwise=["state", "expires_at", "id"],
                name="mail_outbox_entry_expiry_s",
            ),
            PartialIndex(
                fields=["finished_at", "id"],
                only=Q(state=State.SENT.value, has_content=True),
                otherwise=["state", "has_content", "finished_at", "id"],
                name="mail_outbox_entry_content",
            ),
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
            how = "was erased when it ended, because it is sensitive" if self.sensitive else "has been pruned"
            raise UnreadableEnvelope(
                f"The content of entry {self.pk} {how}: there is nothing left to read or to send again."
            ) from error
        return envelope.load(content.envelope(), classes=message_classes())


def label_of(instance: models.Model) -> str:
    """Return the text that stands for a model instance in `related`: `app.model:pk`."""
    return f"{instance._meta.label_lower}:{instance.pk}"
