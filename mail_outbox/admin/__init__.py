"""The outbox in the admin: see everything, act safely.

Import from here: `OutboxEntryAdmin`, `MailerStateAdmin`, `WorkerAdmin`, `SuppressionAdmin`; `OutboxAdminMixin` for a theme's own ModelAdmin;
`OutboxPanel` for the pages of the objects that mail is about.
"""

from django.contrib import admin

from mail_outbox.admin.entries import OutboxAdminMixin, OutboxEntryAdmin
from mail_outbox.admin.others import MailerStateAdmin, WorkerAdmin
from mail_outbox.admin.panel import OutboxPanel
from mail_outbox.admin.suppressions import SuppressionAdmin
from mail_outbox.conf import get_conf
from mail_outbox.models import MailerState, OutboxEntry, Suppression, Worker

__all__ = [
    "MailerStateAdmin",
    "OutboxAdminMixin",
    "OutboxEntryAdmin",
    "OutboxPanel",
    "SuppressionAdmin",
    "WorkerAdmin",
    "register",
]


def register(site: admin.AdminSite) -> None:
    """Register the admin, unless the project has said that it brings its own."""
    if get_conf().register_admin:
        site.register(OutboxEntry, OutboxEntryAdmin)
        site.register(MailerState, MailerStateAdmin)
        site.register(Worker, WorkerAdmin)
        site.register(Suppression, SuppressionAdmin)


register(admin.site)
