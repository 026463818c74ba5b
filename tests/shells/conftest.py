"""Mailers for the tests of the shells, on every Django."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.core import mail
from django.db import connection
from pytest_django import Settings

OUTBOX = {"BACKEND": "mail_outbox.backends.OutboxBackend"}
LOCMEM = {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}
SINK = {"BACKEND": "mail_outbox.backends.SinkBackend"}

Configure = Callable[..., None]


@pytest.fixture
def configure(settings: Settings) -> Configure:
    """Set the mailers where this Django has them, and the keys of MAIL_OUTBOX."""

    def configure(mailers: dict[str, dict[str, Any]], **mail_outbox: Any) -> None:
        if hasattr(mail, "mailers"):
            settings.MAILERS = mailers
            settings.MAIL_OUTBOX = mail_outbox
        else:
            settings.MAIL_OUTBOX = {**mail_outbox, "MAILERS": mailers}

    return configure


@pytest.fixture
def outbox_backend(settings: Settings, configure: Configure) -> None:
    """Turn the drop-in on: Django's mail functions enqueue, and the mailer `real` delivers."""
    senders = {"real": LOCMEM, "bulk": LOCMEM}
    if hasattr(mail, "mailers"):
        # The test setup of Django 6.1 has swapped every mailer for locmem.
        configure({"default": {**OUTBOX, "OPTIONS": {"using": "real"}}, **senders})
    else:
        settings.EMAIL_BACKEND = OUTBOX["BACKEND"]
        configure(senders, USING="real")


@pytest.fixture
def no_test_outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let mailers be what the settings say: before Django 6.1 the outbox itself swaps them for locmem under test."""
    monkeypatch.delattr(mail, "outbox", raising=False)


@pytest.fixture
def unmigrated(transactional_db: None) -> Iterator[None]:
    """Take the outbox's tables out of the way, as they are before the first `migrate`."""
    models = list(apps.get_app_config("mail_outbox").get_models())

    def rename(old: str, new: str) -> None:
        with connection.schema_editor() as editor:
            for model in models:
                table = model._meta.db_table
                editor.alter_db_table(model, old.format(table), new.format(table))

    rename("{}", "away_{}")
    yield
    rename("away_{}", "{}")
