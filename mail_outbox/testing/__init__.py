"""Tools for the tests of projects that send mail through the outbox.

Imported when first used, because pytest loads this package with the plugin, before Django has settings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mail_outbox.testing.asserting import OutboxTestMixin, assert_enqueued, assert_enqueues
    from mail_outbox.testing.draining import drain_outbox
    from mail_outbox.testing.mailers import outbox_backend, scripted_provider

__all__ = [
    "OutboxTestMixin",
    "assert_enqueued",
    "assert_enqueues",
    "drain_outbox",
    "outbox_backend",
    "scripted_provider",
]

HOMES = {"drain_outbox": "draining", "outbox_backend": "mailers", "scripted_provider": "mailers"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES.get(name, 'asserting')}"), name)
