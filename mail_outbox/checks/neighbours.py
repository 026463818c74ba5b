"""What stands beside the outbox in a project: Django's own mail, and the providers' webhooks."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.core.checks import CheckMessage, Info
from django.urls import get_resolver

from mail_outbox import conf as settings
from mail_outbox.checks.mailers import backend_of
from mail_outbox.checks.messages import warning
from mail_outbox.delivery.mailers import LOCMEM, is_under_test


def drop_in() -> Iterator[CheckMessage]:
    """Check that Django's own mail functions enqueue."""
    if settings.OUTBOX_BACKEND in {mailer.get("BACKEND") for mailer in settings.known_mailers().values()}:
        return  # whoever has it under another name has made a choice
    backend = settings.djangos_backend()
    if backend == LOCMEM and is_under_test():
        return  # of Django's own doing, whatever the project has set
    if backend != settings.OUTBOX_BACKEND:
        where = "MAILERS['default']['BACKEND']" if settings.uses_django_mailers() else "EMAIL_BACKEND"
        yield Info(
            "What calls send_mail(), password resets for one, goes past the outbox: only outbox.enqueue() writes to it.",
            hint=f"Set {where} = '{settings.OUTBOX_BACKEND}', or put mail_outbox.W004 into SILENCED_SYSTEM_CHECKS.",
            id="mail_outbox.W004",
        )


def webhooks() -> Iterator[CheckMessage]:
    """Check that nobody but the provider can tell us what became of mail."""
    if not settings.has_urls() or settings.anymail_option("WEBHOOK_SECRET"):
        return
    in_use = {getattr(backend_of(mailer), "esp_name", None) for mailer in settings.known_mailers().values()}
    views = _views(get_resolver().url_patterns)
    # Providers that sign what they send have a view that knows; the others have nothing but the secret in the URL.
    open_ones = {view.esp_name for view in views if getattr(view, "warn_if_no_basic_auth", False)} & in_use
    for provider in sorted(open_ones):
        yield warning(
            "W008",
            f"Anybody can tell the webhook of {provider} that mail was delivered or bounced: it has no secret.",
            "Set ANYMAIL['WEBHOOK_SECRET'] = 'a-random-name:a-random-password', and put the same into the URL that you "
            "give the provider.",
        )


def _views(patterns: Iterable[Any]) -> Iterator[Any]:
    """Yield the classes behind the views, those of included URLs too."""
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _views(pattern.url_patterns)
        elif hasattr(pattern.callback, "view_class"):
            yield pattern.callback.view_class
