"""The shop in the admin."""

from django.contrib import admin

from example_project.shop.models import Order
from mail_outbox.admin import OutboxPanel


@admin.register(Order)
class OrderAdmin(OutboxPanel, admin.ModelAdmin):
    """Orders, newest first, each with the mails about it."""

    list_display = ["id", "customer", "email", "article", "placed_at"]
    ordering = ["-id"]
