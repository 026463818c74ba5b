"""The list of entries: seven columns, three queries, however many rows there are."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.exceptions import NotRegistered
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Prefetch, QuerySet, prefetch_related_objects
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from mail_outbox import outbox
from mail_outbox.admin.databases import KeyedList, OfDatabase, dashboard_url, database_of, in_database
from mail_outbox.admin.filters import FILTERS, PARAMETERS, ordering_of
from mail_outbox.admin.rights import Rights, shown_subject
from mail_outbox.admin.search import HELP, find
from mail_outbox.core.durations import roughly
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry, Recipient

PER_PAGE = 50
MANY = 10_000
"""Further than this the list neither counts nor leafs."""
ALLOWED = PARAMETERS | {"q", "o", "p", "e"}


class CappedPaginator(Paginator):
    """Counts no further than MANY, and remembers that there are more."""

    is_capped = False

    @cached_property
    def count(self) -> int:
        """Return the number of entries, or MANY where there are more."""
        assert isinstance(self.object_list, QuerySet)  # noqa: S101 (the admin gives it nothing else)
        # In the list's order: without it PostgreSQL may start reading at the wrong end of the table.
        count = self.object_list[: MANY + 1].count()
        self.is_capped = count > MANY
        return min(count, MANY)


@dataclass(frozen=True, slots=True)
class Row:
    """What a line of the list shows beside the entry's own columns."""

    subject: str
    recipients: str
    related: SafeString | str
    now: datetime


class EntryList(KeyedList):
    """The list in the order of an index, with what its lines show read at once."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Return the order of the index behind the filter; no other one is possible."""
        return list(ordering_of(request))

    def get_results(self, request: HttpRequest) -> None:
        """Read one page, and prepare its lines."""
        super().get_results(request)
        entries: list[Any] = list(self.result_list)
        self.is_capped = self.paginator.is_capped
        addressees = Prefetch("recipients", queryset=Recipient.objects.using(self.queryset.db).order_by("pk"))
        prefetch_related_objects(entries, addressees)
        model_admin: Any = self.model_admin
        may_see_content = model_admin.has_content_permission(request)
        now = timezone.now()
        for entry in entries:
            entry.row = Row(
                subject=shown_subject(entry, may_see_content=may_see_content),
                recipients=recipients_of(entry),
                related=related_link(model_admin.admin_site, request, entry.related),
                now=now,
            )
        self.result_list = entries


class ListMixin(OfDatabase, Rights):
    """How the list of entries looks and what it may be asked."""

    list_display = ("state_badge", "subject_line", "sent_to", "mailer", "about", "when", "attempts_made")
    list_display_links = ("subject_line",)
    list_filter = FILTERS
    list_per_page = PER_PAGE
    list_max_show_all = PER_PAGE
    list_select_related = ()
    sortable_by = ()
    # A count of the whole table, and one for every choice of a filter, are whole scans; so is an order without an index.
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = CappedPaginator
    search_fields = ("id",)
    search_help_text = HELP

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list that is in order already."""
        return EntryList

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Allow our own filters only: any other is a scan, and a way to guess what one may not see."""
        return lookup in ALLOWED

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find what the term names."""
        return find(queryset, search_term), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Show the list, and above it whether mail flows."""
        response = super().changelist_view(request, extra_context)
        if (
            isinstance(response, TemplateResponse)
            and response.context_data is not None
            and "cl" in response.context_data
        ):
            found: EntryList = response.context_data["cl"]
            database = database_of(request)
            response.context_data |= {
                "title": gettext("Mail in the outbox") + in_database(database),
                "health": outbox.health(database=database),
                "dashboard_url": dashboard_url(self.admin_site, database),
                "acts": self.acts_for_all(request, found),
            }
        return response

    def acts_for_all(self, request: HttpRequest, found: Any) -> list[dict[str, str]]:
        """List what may be done to all that the list holds; the actions say what."""
        return []

    @admin.display(description=_("state"))
    def state_badge(self, entry: OutboxEntry) -> str:
        """Return the state, in a box."""
        return badge(entry.state)

    @admin.display(description=_("subject"))
    def subject_line(self, entry: Any) -> str:
        """Return the subject, where it may be seen."""
        return str(entry.row.subject)

    @admin.display(description=_("recipients"))
    def sent_to(self, entry: Any) -> str:
        """Return the first recipient, and how many more there are."""
        local, at, rest = str(entry.row.recipients).partition("@")
        # A long address breaks where a person would.
        return format_html("{}{}<wbr>{}", local, at, rest)

    @admin.display(description=_("mailer"))
    def mailer(self, entry: OutboxEntry) -> str:
        """Return the alias of the mailer."""
        return entry.using

    @admin.display(description=_("about"), empty_value="")
    def about(self, entry: Any) -> Any:
        """Return the related object, as a link where there is a page for it."""
        return entry.row.related

    @admin.display(description=_("when"))
    def when(self, entry: Any) -> str:
        """Return when it went, or will."""
        return format_html('<span title="{}">{}</span>', _moment_of(entry).isoformat(), when_of(entry, entry.row.now))

    @admin.display(description=_("tries"))
    def attempts_made(self, entry: OutboxEntry) -> int:
        """Return how often it has been tried."""
        return entry.attempts


def badge(state: str) -> SafeString:
    """Return the state as a box whose colour only repeats what its text says."""
    return format_html('<span class="outbox-badge outbox-{}">{}</span>', state, gettext(state))


def recipients_of(entry: OutboxEntry) -> str:
    """Return the first address, and how many more there are."""
    addresses = list(dict.fromkeys(recipient.address for recipient in entry.recipients.all()))
    if not addresses:
        return gettext("nobody")
    return addresses[0] if len(addresses) == 1 else f"{addresses[0]} +{len(addresses) - 1}"


def related_link(site: admin.AdminSite, request: HttpRequest, related: str) -> SafeString | str:
    """Return the related object's label, as a link where this user may see its page; the object is not read."""
    if not related:
        return ""
    label, _, key = related.partition(":")
    text = f"{label.rpartition('.')[2]} {key}"
    try:
        model = apps.get_model(label)
        if site.get_model_admin(model).has_view_permission(request):
            url = reverse(f"{site.name}:{label.replace('.', '_')}_change", args=[quote(key)])
            return format_html('<a href="{}">{}</a>', url, text)
    except (LookupError, ValueError, NotRegistered, NoReverseMatch):
        # The model is gone, or has no page.
        return text
    return text


def when_of(entry: OutboxEntry, now: datetime) -> str:
    """Return in a few words when the entry went, or will."""
    match entry.state:
        case State.SCHEDULED if entry.due_at > now:
            return gettext("due in %s") % roughly(entry.due_at - now)
        case State.SCHEDULED | State.QUEUED:
            return gettext("due for %s") % roughly(now - entry.due_at)
        case State.SENDING:
            is_stuck = entry.lease_expires_at is not None and entry.lease_expires_at <= now
            return gettext("stuck") if is_stuck else gettext("being sent")
    return gettext("%(state)s %(length)s ago") % {
        "state": gettext(entry.state),
        "length": roughly(now - _moment_of(entry)),
    }


def _moment_of(entry: OutboxEntry) -> datetime:
    return entry.finished_at or entry.due_at
