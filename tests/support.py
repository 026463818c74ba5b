"""Settings and messages that many tests need."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core import mail
from django.core.mail import EmailMessage
from django.db.models import F
from django.test import override_settings

from mail_outbox.models import OutboxEntry
from tests.fakes import Provider, ScriptedBackend

HAS_DJANGO_MAILERS = hasattr(mail, "mailers")


@contextmanager
def mailers(configured: Mapping[str, Mapping[str, Any]], **outbox: Any) -> Iterator[None]:
    """Configure exactly these mailers, as Django 6.1 has them or as older ones do, and these keys of MAIL_OUTBOX."""
    options = {**settings.MAIL_OUTBOX, **outbox}
    if HAS_DJANGO_MAILERS:
        with override_settings(MAILERS=configured, MAIL_OUTBOX=options):
            yield
        return
    # Before 6.1 Django's test runner leaves an outbox behind, which makes every mailer locmem.
    kept = mail.__dict__.pop("outbox", None)
    try:
        with override_settings(MAIL_OUTBOX={**options, "MAILERS": configured}):
            yield
    finally:
        if kept is not None:
            mail.outbox = kept


@contextmanager
def scripted(*names: str, **outbox: Any) -> Iterator[dict[str, Provider]]:
    """Configure scripted mailers of these names, and yield their providers."""
    ScriptedBackend.providers = {name: Provider() for name in names}
    backend = f"{ScriptedBackend.__module__}.{ScriptedBackend.__qualname__}"
    with mailers({name: {"BACKEND": backend, "OPTIONS": {"name": name}} for name in names}, **outbox):
        yield ScriptedBackend.providers


def age(entry: OutboxEntry, **moments: timedelta) -> None:
    """Move moments of the entry by so much: the database's clock cannot be moved, but what it is compared with can."""
    OutboxEntry.objects.filter(pk=entry.pk).update(**{name: F(name) + by for name, by in moments.items()})
    entry.refresh_from_db()


def a_message(subject: str = "Hello", **keywords: Any) -> EmailMessage:
    """Return a message that is fine."""
    keywords = {"body": "Text", "from_email": "shop@example.com", "to": ["jane@example.com"], **keywords}
    return EmailMessage(subject, **keywords)
