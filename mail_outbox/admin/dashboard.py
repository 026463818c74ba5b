"""How the outbox is doing, on one page; and the two things to do about a mailer: pause and resume."""

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from mail_outbox import outbox
from mail_outbox.admin import forms
from mail_outbox.admin.actions import log
from mail_outbox.admin.charts import chart_of
from mail_outbox.admin.databases import dashboard_url, database_of, list_url, query_of, with_query
from mail_outbox.admin.guard import tell_rule
from mail_outbox.admin.rights import Rights, require
from mail_outbox.conf import get_conf, real_mailers
from mail_outbox.core.durations import humanise, roughly
from mail_outbox.models import ALL_MAILERS, MailerState, Worker
from mail_outbox.outbox.overview import MANY, NEWEST, Overview, overview

MOST_WORKERS = 50
TITLES = {
    ("pause", False): _("Pause mailer '%(alias)s'"),
    ("pause", True): _("Pause all mailers"),
    ("resume", False): _("Resume mailer '%(alias)s'"),
    ("resume", True): _("Resume all mailers"),
}
SAID = {
    ("pause", False): _("Mailer '%(alias)s' is paused."),
    ("pause", True): _("All mailers are paused."),
    ("resume", False): _("Mailer '%(alias)s' is resumed."),
    ("resume", True): _("All mailers are resumed."),
}


class DashboardMixin(Rights):
    """The dashboard and the mailers' buttons."""

    def get_urls(self) -> list[Any]:
        """Add the dashboard, and the pages that ask before a mailer is paused or resumed."""
        wrap = self.admin_site.admin_view
        return [
            path("dashboard/", wrap(self.dashboard_view), name="mail_outbox_dashboard"),
            path("mailers/<slug:verb>/", wrap(self.mailer_view), name="mail_outbox_mailer"),
            *super().get_urls(),
        ]

    @method_decorator(require_safe)
    @method_decorator(never_cache)
    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """Show how the outbox is doing."""
        require(self.has_view_permission(request))
        site, database = self.admin_site, database_of(request)
        databases = get_conf().databases
        day = overview(database=database)
        workers = Worker.objects.using(database).order_by("-last_seen_at")[:MOST_WORKERS]
        now = timezone.now()
        context = {
            **site.each_context(request),
            "opts": self.opts,
            "title": gettext("Outbox"),
            "databases": [(alias, dashboard_url(site, alias), alias == database) for alias in databases],
            "health": day.health,
            "rule": tell_rule(get_conf()),
            "day": day,
            "newest": NEWEST,
            "list_url": list_url(site, database),
            "states": [
                (state, _count(count), list_url(site, database, state=state)) for state, count in day.states.items()
            ],
            "oldest_due": gettext("nothing is due")
            if day.health.oldest_due is None
            else humanise(day.health.oldest_due),
            "latency": _latency(day),
            "chart": chart_of(day.hours),
            "mailers": self._mailers(day, database),
            "causes": self._causes(request, day, database),
            "pause": self._mailer_url("pause", database),
            "resume": self._mailer_url("resume", database),
            "workers": [(worker, _ago(now - worker.last_seen_at)) for worker in workers],
            "may_operate": self.has_operate_permission(request),
        }
        return TemplateResponse(request, "mail_outbox/admin/dashboard.html", context)

    def _mailers(self, day: Overview, database: str) -> list[dict[str, Any]]:
        health = {mailer.alias: mailer for mailer in day.health.mailers}
        rows = []
        for load in day.mailers:
            ended, mailer = load.sent + load.failed, health[load.alias]
            rows.append(
                {
                    "load": load,
                    "health": mailer,
                    "queued": _count(load.queued),
                    "share": f"{load.failed / ended:.1%}" if ended else "-",
                    "oldest": "-" if mailer.oldest_due is None else humanise(mailer.oldest_due),
                    "url": list_url(self.admin_site, database, using=load.alias),
                    "pause": self._mailer_url("pause", database, mailer=load.alias),
                    "resume": self._mailer_url("resume", database, mailer=load.alias),
                }
            )
        return rows

    def _causes(self, request: HttpRequest, day: Overview, database: str) -> list[dict[str, Any]]:
        now, may_act = timezone.now(), self.has_act_permission(request)
        rows = []
        for cause in day.causes:
            query = {"state": "failed", "using": cause.using, "cause": f"{cause.kind}:{cause.code}"}
            act = reverse("admin:mail_outbox_act", args=["retry"], current_app=self.admin_site.name)
            rows.append(
                {
                    "cause": cause,
                    "last": _ago(now - cause.last_at),
                    "url": list_url(self.admin_site, database, **query),
                    "retry": with_query(act, query | query_of(database)) if may_act else "",
                }
            )
        return rows

    def _mailer_url(self, verb: str, database: str, **query: str) -> str:
        url = reverse("admin:mail_outbox_mailer", args=[verb], current_app=self.admin_site.name)
        return with_query(url, query | query_of(database))

    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def mailer_view(self, request: HttpRequest, verb: str) -> HttpResponse:
        """Ask, and then pause or resume the mailer that is named, or all of them."""
        require(self.has_view_permission(request) and self.has_operate_permission(request))
        alias = request.GET.get("mailer") or None
        if verb not in {"pause", "resume"} or (alias is not None and alias not in real_mailers()):
            raise Http404
        fields = {"reason": forms.pause_reason(), "length": forms.pause_length()} if verb == "pause" else {}
        form = forms.confirm_form(fields, request.POST if request.method == "POST" else None)
        dashboard = dashboard_url(self.admin_site, database_of(request))
        if request.method == "POST" and form.is_valid():
            self._operate(request, verb, alias, form.cleaned_data)
            messages.success(request, SAID[verb, alias is None] % {"alias": alias})
            return HttpResponseRedirect(dashboard)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": TITLES[verb, alias is None] % {"alias": alias},
            "verb": verb,
            "is_everywhere": len(get_conf().databases) > 1,
            "form": form,
            "back": dashboard,
        }
        return TemplateResponse(request, "mail_outbox/admin/mailer.html", context)

    def _operate(self, request: HttpRequest, verb: str, alias: str | None, given: dict[str, Any]) -> None:
        if verb == "pause":
            length: timedelta | None = given["length"]
            reason = f"{given['reason'] or 'paused by hand'} ({request.user.get_username()})"
            outbox.pause(alias, reason=reason, until=length)
        else:
            outbox.resume(alias)
        log(request, [MailerState(alias=alias or ALL_MAILERS)], f"{verb.capitalize()}: {given.get('reason', '')}")


def _ago(length: timedelta) -> str:
    return gettext("%s ago") % roughly(length)


def _count(count: int) -> str:
    return f"{MANY:,}+" if count > MANY else f"{count:,}"


def _latency(day: Overview) -> list[tuple[str, str]]:
    latency = day.latency
    if latency is None:
        return []
    lengths = (("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99))
    return [
        (name, f"{length.total_seconds():.2f} s" if length < timedelta(seconds=10) else humanise(length))
        for name, length in lengths
    ]
