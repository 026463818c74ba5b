"""The admin of the entries, put together."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from mail_outbox.admin.actions import ACTIONS, ActionsMixin
from mail_outbox.admin.dashboard import DashboardMixin
from mail_outbox.admin.list import ListMixin
from mail_outbox.admin.page import PageMixin
from mail_outbox.admin.preview import PreviewMixin
from mail_outbox.models import OutboxEntry


class OutboxAdminMixin(ActionsMixin, DashboardMixin, PreviewMixin, PageMixin, ListMixin):
    """All of the outbox's admin, to be put before the ModelAdmin of a theme."""

    actions: Any = ACTIONS


class OutboxEntryAdmin(OutboxAdminMixin, admin.ModelAdmin):
    """The outbox in Django's own admin."""

    def action_checkbox(self, entry: OutboxEntry) -> SafeString:
        """Return the box to tick, written by hand: a widget's template on each line took a third of the page's time."""
        return format_html(
            '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="{}">',
            ACTION_CHECKBOX_NAME,
            entry.pk,
            gettext("Select mail %s") % entry.pk,
        )
