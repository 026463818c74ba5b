"""The mails about an object, on that object's own page in the admin."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import NoReverseMatch
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _

from mail_outbox import outbox
from mail_outbox.admin.databases import entry_url, key_of
from mail_outbox.admin.list import recipients_of, when_of
from mail_outbox.admin.rights import shown_subject
from mail_outbox.conf import get_conf
from mail_outbox.models import OutboxEntry

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as Base
else:
    Base = object

NEWEST = 20
FIELD = "outbox_mails"


class OutboxPanel(Base):
    """Put it before ModelAdmin: the newest mails enqueued with `related=` the object, to whom may view them."""

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Add the panel to the fields that cannot be edited."""
        given: Sequence[Any] = super().get_readonly_fields(request, obj)
        return [*given, FIELD] if self._shows_mails(request, obj) else given

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Leave the panel out of the fields where it has a fieldset of its own."""
        return [name for name in super().get_fields(request, obj) if name != FIELD]

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Add the panel at the end."""
        given = super().get_fieldsets(request, obj)
        return [*given, (_("Mail"), {"fields": [FIELD]})] if self._shows_mails(request, obj) else given

    @property
    def media(self) -> forms.Media:
        """Add the style sheet."""
        return super().media + forms.Media(css={"all": ["mail_outbox/outbox.css"]})

    @admin.display(description=_("Mails about it"))
    def outbox_mails(self, instance: Model) -> SafeString:
        """Return a table of the newest mails about the object."""
        mails = outbox.for_object(instance).prefetch_related("recipients")
        found = [entry for alias in get_conf().databases for entry in mails.using(alias)[: NEWEST + 1]]
        found.sort(key=lambda entry: entry.created_at, reverse=True)
        now = timezone.now()
        rows = [
            {
                "entry": entry,
                "subject": shown_subject(entry, may_see_content=False),
                "recipients": recipients_of(entry),
                "when": when_of(entry, now),
                "url": self._url_of(entry),
            }
            for entry in found[:NEWEST]
        ]
        return mark_safe(  # noqa: S308 (a template escapes what is in it)
            render_to_string(
                "mail_outbox/admin/panel.html", {"rows": rows, "newest": NEWEST, "more": len(found) > NEWEST}
            )
        )

    def _shows_mails(self, request: HttpRequest, obj: Model | None) -> bool:
        return obj is not None and request.user.has_perm("mail_outbox.view_outboxentry")

    def _url_of(self, entry: OutboxEntry) -> str:
        try:
            return entry_url(self.admin_site, "outboxentry_change", key_of(entry.pk, entry._state.db))
        except NoReverseMatch:
            return ""
