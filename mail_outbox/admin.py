"""The outbox in the admin: to look at, never to change."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from mail_outbox.conf import get_conf, real_mailers
from mail_outbox.core.addresses import normalise
from mail_outbox.models import Attempt, MailerState, OutboxEntry, Recipient, Worker

LONGEST_ID = 20
"""Digits of the largest key there can be, and one: more of them are half a UUID, or a joke."""


class ReadOnly:
    """Nobody adds, changes or deletes anything here, whatever permissions they have."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Say no."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Say no."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Say no."""
        return False


class MailerFilter(admin.SimpleListFilter):
    """Entries by mailer; the choices come from the settings, because reading them from the table would scan it."""

    title = "mailer"
    parameter_name = "using"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the mailers that are configured."""
        return [(alias, alias) for alias in real_mailers()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list down to the chosen mailer."""
        chosen = self.value()
        return queryset if chosen is None else queryset.filter(using=chosen)


class RecipientInline(ReadOnly, admin.TabularInline):
    """Everybody an entry is addressed to, and what became of them."""

    model = Recipient
    fields = ("role", "address", "status", "code", "text")
    ordering = ("pk",)
    extra = 0


class AttemptInline(ReadOnly, admin.TabularInline):
    """Every attempt at an entry, and what it came to."""

    model = Attempt
    fields = ("number", "using", "started_at", "duration", "kind", "code", "text", "provider_message_id", "worker")
    ordering = ("number", "pk")
    extra = 0


class OutboxEntryAdmin(ReadOnly, admin.ModelAdmin):
    """Entries, newest first."""

    list_display = ("id", "state", "subject", "using", "due_at", "attempts", "outcome")
    list_filter = ("state", MailerFilter)
    list_per_page = 50
    ordering = ("-pk",)
    sortable_by = ("id",)
    actions = None
    inlines = (RecipientInline, AttemptInline)
    # A count of the whole table, and one for every choice of a filter, are whole scans; so is an order without an index.
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("id",)
    search_help_text = "The id of an entry, its UUID, a Message-ID, or the whole address of a recipient."

    @admin.display(description="outcome")
    def outcome(self, entry: OutboxEntry) -> str:
        """Return what the last attempt came to, with the provider's code."""
        return f"{entry.outcome_kind} {entry.outcome_code}".strip()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find what the term names exactly; every search goes through an index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if "@" in term:
            by_message_id = queryset.filter(message_id__in=[term, f"<{term}>"])
            if by_message_id.exists():
                return by_message_id, False
            addressed = Recipient.objects.using(queryset.db).filter(address=normalise(term))
            return queryset.filter(pk__in=addressed.values("entry_id")), False
        if term.isdecimal() and len(term) < LONGEST_ID:
            return queryset.filter(pk=int(term)), False
        try:
            return queryset.filter(uuid=UUID(term)), False
        except ValueError:
            return queryset.none(), False


class MailerStateAdmin(ReadOnly, admin.ModelAdmin):
    """Mailers that are or were paused or in trouble."""

    list_display = ("alias", "is_paused", "paused_until", "pause_reason", "strikes", "broken_until", "broken_reason")
    ordering = ("alias",)
    actions = None


class WorkerAdmin(ReadOnly, admin.ModelAdmin):
    """Worker processes."""

    list_display = ("name", "host", "pid", "started_at", "last_seen_at", "activity")
    ordering = ("-last_seen_at",)
    actions = None


def register(site: admin.AdminSite) -> None:
    """Register the admin, unless the project has said that it brings its own."""
    if get_conf().register_admin:
        site.register(OutboxEntry, OutboxEntryAdmin)
        site.register(MailerState, MailerStateAdmin)
        site.register(Worker, WorkerAdmin)


register(admin.site)
