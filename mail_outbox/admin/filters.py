"""The filters of the list, each answered from an index, with choices that cost no query."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from mail_outbox.admin.databases import PARAMETER, database_of
from mail_outbox.conf import get_conf, real_mailers
from mail_outbox.core.states import FINISHED, State
from mail_outbox.models import UtcNow

WINDOWS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}


class OutboxFilter(admin.SimpleListFilter):
    """A filter that finds nothing for a value it does not know, so that a mistyped link never means "everything"."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list down to the chosen value."""
        chosen = self.value()
        if chosen is None:
            return queryset
        return self.narrow(queryset, chosen) if chosen in dict(self.lookup_choices) else queryset.none()

    def narrow(self, entries: Any, chosen: str) -> QuerySet[Any]:
        """Return the entries that the value stands for."""
        raise NotImplementedError


class DatabaseFilter(OutboxFilter):
    """Which outbox the list is about, where there are several; the first one unless another is asked for."""

    title = _("database")
    parameter_name = PARAMETER

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.shown = database_of(request)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the databases."""
        return [(alias, alias) for alias in get_conf().databases]

    def has_output(self) -> bool:
        """Tell whether there is anything to choose."""
        return len(self.lookup_choices) > 1

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Offer each of them; there is no list of all."""
        for alias, text in self.lookup_choices:
            query = changelist.get_query_string({self.parameter_name: alias})
            yield {"selected": alias == self.shown, "query_string": query, "display": text}

    def narrow(self, entries: Any, chosen: str) -> QuerySet[Any]:
        """Return all: the list reads that database anyway."""
        found: QuerySet[Any] = entries
        return found


class StateFilter(OutboxFilter):
    """Entries by state."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the states."""
        return [(state.value, gettext(state.value)) for state in State]

    def narrow(self, entries: Any, chosen: str) -> QuerySet[Any]:
        """Return the entries in the state."""
        state = State(chosen)
        found: QuerySet[Any] = entries.ended(state) if state in FINISHED else entries.filter(state=state)
        return found


class MailerFilter(OutboxFilter):
    """Entries by mailer; the choices come from the settings, because reading them from the table would scan it."""

    title = _("mailer")
    parameter_name = "using"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the mailers that are configured, and the one that was asked for."""
        asked = request.GET.get(self.parameter_name)
        known = real_mailers()
        return [(alias, alias) for alias in (*known, *([asked] if asked and asked not in known else []))]

    def narrow(self, entries: Any, chosen: str) -> QuerySet[Any]:
        """Return the entries of the mailer."""
        found: QuerySet[Any] = entries.filter(using=chosen)
        return found


class WindowFilter(OutboxFilter):
    """Entries by when they were enqueued."""

    title = _("time")
    parameter_name = "window"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the windows."""
        return [
            ("hour", gettext("enqueued in the last hour")),
            ("day", gettext("in the last 24 hours")),
            ("week", gettext("in the last 7 days")),
        ]

    def narrow(self, entries: Any, chosen: str) -> QuerySet[Any]:
        """Return what was enqueued in the window."""
        found: QuerySet[Any] = entries.filter(created_at__gte=UtcNow() - WINDOWS[chosen])
        return found


class AttentionFilter(OutboxFilter):
    """Entries that somebody may want to look at."""

    title = _("attention")
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the reasons."""
        return [
            ("person", gettext("needs a person")),
            ("stuck", gettext("stuck")),
            ("error", gettext("has an error")),
        ]

    def narrow(self, entries: Any, chosen: str) -> QuerySet[Any]:
        """Return what is held, what a worker was lost on, or what got another answer than a success."""
        found: QuerySet[Any]
        match chosen:
            case "person":
                found = entries.ended(State.HELD)
            case "stuck":
                found = entries.stuck()
            case _:
                found = entries.troubled()
        return found


class CauseFilter(OutboxFilter):
    """Failures with one outcome and code, `permanent:550`; offered by the dashboard only."""

    title = _("cause of failure")
    parameter_name = "cause"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the one that was asked for."""
        asked = request.GET.get(self.parameter_name)
        return [] if asked is None else [(asked, asked)]

    def narrow(self, entries: Any, chosen: str) -> QuerySet[Any]:
        """Return what has failed for this cause."""
        kind, _, code = chosen.partition(":")
        found: QuerySet[Any] = entries.ended(State.FAILED).filter(outcome_kind=kind, outcome_code=code)
        return found


FILTERS = (DatabaseFilter, StateFilter, AttentionFilter, MailerFilter, WindowFilter, CauseFilter)
PARAMETERS = frozenset(kind.parameter_name for kind in FILTERS)


def ordering_of(request: HttpRequest) -> tuple[str, ...]:
    """Return the order in which an index has what the filters ask for: no list is ever sorted."""
    asked = request.GET
    match asked.get("state"):
        case State.QUEUED:
            return ("using", "rank", "due_at", "pk")
        case State.SCHEDULED:
            return ("due_at", "pk")
        case State.SENDING:
            return ("lease_expires_at", "pk")
        case str(state) if state in FINISHED:
            return ("-finished_at", "-pk")
    if asked.get("attention") == "stuck":
        return ("lease_expires_at", "pk")
    if asked.get("attention") == "person" or "cause" in asked:
        return ("-finished_at", "-pk")
    if "window" in asked and "using" not in asked and "attention" not in asked:
        return ("-created_at", "-pk")
    return ("-pk",)
