"""From a button to a form to the deed: on one mail, on those ticked, or on all that the list holds."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import BadRequest
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone, translation
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods

from mail_outbox.admin.acts import ACTS, Act
from mail_outbox.admin.databases import database_of, entry_url, key_of, list_url, named, query_of
from mail_outbox.admin.forms import ConfirmForm, confirm_form
from mail_outbox.admin.guard import tell_rule
from mail_outbox.admin.list import MANY, PER_PAGE, recipients_of, when_of
from mail_outbox.admin.rights import Rights, require, shown_subject
from mail_outbox.conf import get_conf

SAMPLE = 10
IDS = "ids"


class ActionsMixin(Rights):
    """The acts as actions of the list, as buttons, and as a page that asks before anything is done."""

    def get_urls(self) -> list[Any]:
        """Add the page that asks."""
        view = self.admin_site.admin_view(self.act_view)
        return [path("act/<slug:name>/", view, name="mail_outbox_act"), *super().get_urls()]

    def acts_for_all(self, request: HttpRequest, found: Any) -> list[dict[str, str]]:
        """List what may be done to all that the list holds."""
        if not self.has_act_permission(request) or not found.result_count:
            return []
        query = {name: values for name, values in request.GET.lists() if name not in {"p", "o", "e"}}
        return [{"label": str(act.label), "url": self.act_url(act, query)} for act in self.allowed_acts(request)]

    def acts_for_one(self, request: HttpRequest, entry: Any) -> list[dict[str, str]]:
        """List what may be done to this entry as it is."""
        if not self.has_act_permission(request):
            return []
        fitting = [act for act in self.allowed_acts(request) if entry.state in act.states]
        if entry.sensitive:
            fitting = [act for act in fitting if not act.needs_content]
        if not entry.has_content:
            fitting = [act for act in fitting if act.name not in {"retry", "resend", "copy"}]
        query = {IDS: [str(entry.pk)], **{name: [value] for name, value in query_of(entry._state.db).items()}}
        return [{"label": str(act.label), "url": self.act_url(act, query)} for act in fitting]

    def allowed_acts(self, request: HttpRequest) -> list[Act]:
        """List the acts this user may do at all."""
        may_see_content = self.has_content_permission(request)
        email = getattr(request.user, "email", "")
        return [act for act in ACTS.values() if not act.needs_content or (may_see_content and email)]

    def act_url(self, act: Act, query: dict[str, list[Any]]) -> str:
        """Return where the page is that asks."""
        parameters = QueryDict(mutable=True)
        for name, values in query.items():
            parameters.setlist(name, values)
        url = reverse("admin:mail_outbox_act", args=[act.name], current_app=self.admin_site.name)
        return f"{url}?{parameters.urlencode()}"

    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    @method_decorator(transaction.non_atomic_requests)
    def act_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Ask, with a count and a sample; once confirmed do it, and tell what was done, what was skipped and why."""
        require(self.has_act_permission(request))
        act = ACTS.get(name)
        if act is None:
            raise Http404
        require(act in self.allowed_acts(request))
        entries, count = self._chosen(request)
        fields = {field: make() for field, make in act.fields.items()}
        if "to" in fields and not self.has_content_permission(request):
            # Whoever may not see a mail may not have it sent to another address either.
            del fields["to"]
        if request.method == "POST":
            form = confirm_form(fields, request.POST)
            if form.is_valid():
                return self._do(request, act, entries, form)
        else:
            newest = entries.order_by("-pk").values_list("pk", flat=True).first()
            form = confirm_form(fields, newest=newest or 0)
        return self._ask(request, act, entries, count, form)

    def _chosen(self, request: HttpRequest) -> tuple[QuerySet[Any], int]:
        """Return the entries that the query string names, by ids or by the list's filters, and how many there are."""
        if IDS in request.GET:
            try:
                keys = [int(key) for key in request.GET[IDS].split(",")]
            except ValueError as error:
                raise BadRequest("ids are numbers, with commas between them") from error
            if not all(0 < key < 2**63 for key in keys) or len(keys) > PER_PAGE * 4:
                raise BadRequest("no such ids")
            entries = self.get_queryset(request).filter(pk__in=keys)
            return entries, entries.count()
        try:
            found: Any = self.get_changelist_instance(request)
        except IncorrectLookupParameters as error:
            raise BadRequest("no such filter") from error
        return found.queryset, found.result_count + (1 if found.is_capped else 0)

    def _ask(
        self, request: HttpRequest, act: Act, entries: QuerySet[Any], count: int, form: ConfirmForm
    ) -> TemplateResponse:
        sample = list(entries.prefetch_related("recipients")[:SAMPLE])
        may_see_content = self.has_content_permission(request)
        now = timezone.now()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": act.label,
            "act": act,
            "rule": tell_rule(get_conf()) if act.sends else "",
            "count": count,
            "count_text": gettext("more than %s") % f"{MANY:,}" if count > MANY else f"{count:,}",
            "sample": [
                {
                    "entry": entry,
                    "subject": shown_subject(entry, may_see_content=may_see_content),
                    "recipients": recipients_of(entry),
                    "when": when_of(entry, now),
                    "fits": entry.state in act.states,
                }
                for entry in sample
            ],
            "form": form,
            "back": self._back(request),
        }
        return TemplateResponse(request, "mail_outbox/admin/act.html", context)

    def _do(self, request: HttpRequest, act: Act, entries: QuerySet[Any], form: ConfirmForm) -> HttpResponseRedirect:
        given = {**form.cleaned_data, "database": entries.db}
        keys = list(entries.filter(pk__lte=given["newest"]).values_list("pk", flat=True)[: act.most + 1])
        is_cut, keys = len(keys) > act.most, keys[: act.most]
        done, skipped = 0, Counter[str]()
        said = audit_text(act, given)
        for report in act.run(keys, given, request.user):
            done += len(report.done)
            skipped.update(report.skipped)
            if report.done:
                log(request, report.done, said)
        self._tell(request, act, done, skipped, is_cut=is_cut)
        return HttpResponseRedirect(self._back(request))

    def _tell(self, request: HttpRequest, act: Act, done: int, skipped: Counter[str], *, is_cut: bool) -> None:
        if done:
            messages.success(request, act.done % {"number": done, "count": f"{done:,}"})
        if skipped:
            reasons = ", ".join(f"{count:,} {gettext(reason)}" for reason, count in sorted(skipped.items()))
            said = gettext("%(count)s skipped: %(reasons)s.")
            messages.warning(request, said % {"count": f"{skipped.total():,}", "reasons": reasons})
        if not done and not skipped:
            messages.warning(request, gettext("Nothing was done: there was nothing left to do it to."))
        if is_cut:
            said = gettext("That was the first %(most)s; there are more. Do it again for the rest.")
            messages.warning(request, said % {"most": f"{act.most:,}"})

    def _back(self, request: HttpRequest) -> str:
        """Return the page the user came from: that of the one entry, or the list as it was filtered."""
        keys, database = request.GET.get(IDS, ""), database_of(request)
        if keys.isdecimal():
            return entry_url(self.admin_site, "outboxentry_change", key_of(int(keys), database))
        url = list_url(self.admin_site, database if keys else None)
        return url if keys or not request.GET else f"{url}?{request.GET.urlencode()}"


def _action_of(act: Act) -> Callable[..., HttpResponse]:
    @admin.action(description=act.label, permissions=["content", "act"] if act.needs_content else ["act"])
    def ask(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        if request.POST.get("select_across") == "1":
            query = {name: values for name, values in request.GET.lists() if name not in {"p", "o", "e"}}
        else:
            query = {IDS: [",".join(request.POST.getlist(ACTION_CHECKBOX_NAME))]}
            query |= {name: [value] for name, value in query_of(queryset.db).items()}
        return HttpResponseRedirect(model_admin.act_url(act, query))

    ask.__name__ = act.name.replace("-", "_")
    return ask


ACTIONS: Sequence[Callable[..., HttpResponse]] = tuple(_action_of(act) for act in ACTS.values())


def log(request: HttpRequest, objects: Iterable[Any], text: str) -> None:
    """Write into the admin's log who did what to which."""
    LogEntry.objects.log_actions(request.user.pk, [named(each) for each in objects], CHANGE, text)  # type: ignore[arg-type]


def audit_text(act: Act, given: dict[str, Any]) -> str:
    """Return what was done, for the admin's log."""
    told = [f"{name} {_as_text(given[name])}" for name in act.fields if given.get(name)]
    with translation.override(None):
        # One language for all who read the log.
        return f"{act.label}{': ' if told else ''}{'; '.join(told)}"


def _as_text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
