"""The shop in the admin."""

from django.contrib import admin

from example_project.shop.models import Order


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """Orders, newest first."""

    list_display = ["id", "customer", "email", "article", "placed_at"]
    ordering = ["-id"]
