"""Which of the outbox's databases a page is about: the first one, unless its address names another."""

from copy import copy
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest
from django.urls import reverse

from mail_outbox.conf import get_conf

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite
    from django.contrib.admin import ModelAdmin as Base
else:
    Base = object

PARAMETER = "database"


def database_of(request: HttpRequest) -> str:
    """Return the database that the address asks for, or the first; raises Http404 for one that has no outbox."""
    known = get_conf().databases
    asked = request.GET.get(PARAMETER, known[0])
    if asked not in known:
        raise Http404("MAIL_OUTBOX['DATABASE'] names no such database.")
    return asked


def query_of(database: str | None) -> dict[str, str]:
    """Return what an address needs to ask for the database: nothing, where it is the first."""
    return {} if database in {None, get_conf().databases[0]} else {PARAMETER: str(database)}


def with_query(url: str, query: dict[str, str]) -> str:
    """Return the address with the query, if there is any."""
    return f"{url}?{urlencode(query)}" if query else url


def key_of(pk: Any, database: str | None) -> str:
    """Return what names the row among those of all databases: `7`, or `7@other`."""
    return "@".join([str(pk), *query_of(database).values()])


def in_database(database: str | None) -> str:
    """Return what a title says of the database: nothing, where it is the first."""
    return "".join(f" ({alias})" for alias in query_of(database).values())


def named(row: Model) -> Any:
    """Return the row under that name, for what knows a row by its primary key alone: Django's log and its history."""
    twin = copy(row)
    twin.pk = key_of(row.pk, row._state.db)
    return twin


def entry_url(site: "AdminSite", view: str, key: str, *more: Any) -> str:
    """Return the address of a page of an entry, by its key."""
    return reverse(f"admin:mail_outbox_{view}", args=[quote(key), *more], current_app=site.name)


def list_url(site: "AdminSite", database: str | None, **query: str) -> str:
    """Return the address of the list of what is in the database."""
    url = reverse("admin:mail_outbox_outboxentry_changelist", current_app=site.name)
    return with_query(url, query | query_of(database))


def dashboard_url(site: "AdminSite", database: str | None) -> str:
    """Return the address of the dashboard of the database."""
    return with_query(reverse("admin:mail_outbox_dashboard", current_app=site.name), query_of(database))


class KeyedList(ChangeList):
    """A list whose lines lead to rows of the database it is about."""

    def url_for_result(self, result: Model) -> str:
        """Return the address of the row's page."""
        admin: Any = self.model_admin
        return entry_url(admin.admin_site, f"{self.opts.model_name}_change", key_of(result.pk, result._state.db))


class OfDatabase(Base):
    """Reads the database that the address asks for, and knows rows of the others by a key with the database in it."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows of that database."""
        return super().get_queryset(request).using(database_of(request))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list whose lines lead there."""
        return KeyedList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the row of that key, or None."""
        key, at, database = object_id.rpartition("@")
        if not at or database not in get_conf().databases:
            return super().get_object(request, object_id, from_field)
        try:
            return self.get_queryset(request).using(database).get(pk=key)
        except (self.model.DoesNotExist, ValidationError, ValueError):
            return None

    def history_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        """Show what was done to the row, with links to that very row."""
        response = super().history_view(request, object_id, extra_context)
        context = getattr(response, "context_data", None)
        if context is not None:
            context["object"] = named(context["object"])
        return response
