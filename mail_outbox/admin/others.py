"""Mailers and workers in the admin: to look at, never to change."""

from django.contrib import admin

from mail_outbox.admin.databases import OfDatabase
from mail_outbox.admin.filters import DatabaseFilter
from mail_outbox.admin.rights import ReadOnly


class MailerStateAdmin(OfDatabase, ReadOnly, admin.ModelAdmin):
    """Mailers that are or were paused or in trouble; the dashboard pauses and resumes them."""

    list_display = ("alias", "is_paused", "paused_until", "pause_reason", "strikes", "broken_until", "broken_reason")
    list_filter = (DatabaseFilter,)
    ordering = ("alias",)
    actions = None


class WorkerAdmin(OfDatabase, ReadOnly, admin.ModelAdmin):
    """Worker processes."""

    list_display = ("name", "host", "pid", "started_at", "last_seen_at", "activity")
    list_filter = (DatabaseFilter,)
    ordering = ("-last_seen_at",)
    actions = None
