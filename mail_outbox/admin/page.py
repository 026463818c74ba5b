"""The page of one entry: what happened, what happens next, how it looks, and what may be done."""

from typing import Any

from django.contrib.admin.utils import unquote
from django.core.exceptions import ObjectDoesNotExist
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext

from mail_outbox import outbox
from mail_outbox.admin.databases import dashboard_url, entry_url, in_database, key_of, list_url
from mail_outbox.admin.guard import tell_guard
from mail_outbox.admin.list import related_link
from mail_outbox.admin.preview import Shown, shown_of
from mail_outbox.admin.rights import HIDDEN, Rights, require, shown_subject, shown_text
from mail_outbox.admin.story import tell
from mail_outbox.conf import get_conf
from mail_outbox.core.states import FINISHED
from mail_outbox.models import OutboxEntry

MOST_COPIES = 20
MOST_EVENTS = 200


class PageMixin(Rights):
    """The page of one entry, to look at; what may be done goes through the pages that ask."""

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the entry; nothing is ever changed here."""
        entry = self.get_object(request, unquote(object_id))
        require(self.has_view_permission(request, entry))
        if request.method not in {"GET", "HEAD"}:
            require(self.has_change_permission(request, entry))
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if entry is None:
            raise Http404
        context = {
            **self.admin_site.each_context(request),
            **self._context(request, entry),
            **(extra_context or {}),
        }
        response = TemplateResponse(request, "mail_outbox/admin/entry.html", context)
        response.headers["Cache-Control"] = "no-store"
        return response

    def _context(self, request: HttpRequest, entry: OutboxEntry) -> dict[str, Any]:
        now = timezone.now()
        site, database = self.admin_site, entry._state.db
        attempts = list(entry.attempt_set.using(database).order_by("started_at", "pk"))
        events = entry.delivery_events.using(database).select_related("recipient").order_by("happened_at", "pk")
        copies = OutboxEntry.objects.using(database).filter(resent_from=entry).order_by("pk")[:MOST_COPIES]
        recipients = list(entry.recipients.using(database).order_by("pk"))
        may_see_content = self.has_content_permission(request)
        conf = get_conf()
        return {
            "opts": self.opts,
            "title": (gettext("Mail %s") % entry.pk) + in_database(database),
            "original": entry,
            "entry": entry,
            "subject": shown_subject(entry, may_see_content=may_see_content),
            "story": tell(entry, attempts, outbox.health(database=database), now),
            "acts": self.acts_for_one(request, entry),
            "list_url": list_url(site, database),
            "dashboard_url": dashboard_url(site, database),
            "history_url": entry_url(site, "outboxentry_history", key_of(entry.pk, database)),
            "database": database if len(conf.databases) > 1 else "",
            "recipients": [(each, shown_text(entry, each.text)) for each in recipients],
            "attempts": [(attempt, shown_text(entry, attempt.text)) for attempt in attempts],
            "events": list(events[:MOST_EVENTS]),
            "copies": [(copy, entry_url(site, "outboxentry_change", key_of(copy.pk, database))) for copy in copies],
            "copied_url": entry_url(site, "outboxentry_change", key_of(entry.resent_from_id, database)),
            "related": related_link(site, request, entry.related),
            "metadata": self._metadata(request, entry),
            "idempotency_key": entry.idempotency_key if self.may_read(request, entry) else HIDDEN,
            "content": self._content(request, entry),
            "guard": tell_guard((each.address for each in recipients), conf, is_over=entry.state in FINISHED),
        }

    def acts_for_one(self, request: HttpRequest, entry: Any) -> list[dict[str, str]]:
        """List what may be done to this entry; the actions say what."""
        return []

    def _content(self, request: HttpRequest, entry: OutboxEntry) -> Shown:
        if entry.sensitive:
            return Shown(
                problem=gettext(
                    "This mail is sensitive: what it says is for its recipients alone, and nobody sees it here."
                )
            )
        if not self.has_content_permission(request):
            return Shown(problem=gettext("You may see that this mail exists, but not what it says."))
        return shown_of(self.admin_site, request, entry)

    def _metadata(self, request: HttpRequest, entry: OutboxEntry) -> Any:
        if not self.may_read(request, entry):
            return None
        try:
            return entry.content.opened()[1]
        except (ObjectDoesNotExist, outbox.UnreadableEnvelope):
            return None
