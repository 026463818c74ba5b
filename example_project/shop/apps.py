"""The shop as a Django app."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The shop."""

    name = "example_project.shop"
    verbose_name = "Teapot shop"
