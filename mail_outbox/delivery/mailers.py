"""From an alias to a fresh instance of the mailer it stands for."""

import sys
from typing import Any

from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.utils.module_loading import import_string

from mail_outbox.conf import known_mailers, uses_django_mailers
from mail_outbox.core.errors import UnknownMailer, did_you_mean

LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
SCRIPTED = "mail_outbox.delivery.scripted.ScriptedBackend"
SMTP = "django.core.mail.backends.smtp.EmailBackend"


class EnqueuesAgain(Exception):
    """The mailer is the outbox itself: whatever it is given comes back as a new entry."""


def make_backend(alias: str) -> BaseEmailBackend:
    """Return a new, unopened instance of the mailer; raises whatever its configuration makes it raise."""
    backend = _django_mailer(alias) if _is_djangos(alias) else _our_mailer(alias)
    if getattr(backend, "enqueues", False):
        raise EnqueuesAgain(f"Mailer '{alias}' is the outbox itself. Name one that sends.")
    # Silence would make a lost message look like one that the mailer skipped on purpose.
    for name in ("fail_silently", "_fail_silently"):
        if vars(backend).get(name):
            setattr(backend, name, False)
    return backend


def _is_djangos(alias: str) -> bool:
    if uses_django_mailers():
        return True
    # Without MAILERS, 6.1 makes its default mailer from the old settings, silently if Django does it by itself.
    return hasattr(mail, "mailers") and alias == "default" and not known_mailers().get(alias)


def _django_mailer(alias: str) -> BaseEmailBackend:
    if alias not in mail.mailers and uses_django_mailers():
        raise UnknownMailer(f"No mailer '{alias}' in MAILERS." + did_you_mean(alias, known_mailers()))
    backend: BaseEmailBackend = mail.mailers[alias]
    return backend


def _our_mailer(alias: str) -> BaseEmailBackend:
    mailers = known_mailers()
    if alias not in mailers:
        raise UnknownMailer(f"No mailer '{alias}' in MAIL_OUTBOX['MAILERS']." + did_you_mean(alias, mailers))
    config: dict[str, Any] = dict(mailers[alias])
    if is_under_test() and config.get("BACKEND") != SCRIPTED:
        config = {"BACKEND": LOCMEM}
    options = dict(config.get("OPTIONS", {}))
    if hasattr(mail, "mailers"):
        options["alias"] = alias  # otherwise 6.1 warns that backends are not made by hand
    backend: BaseEmailBackend = import_string(config.get("BACKEND", SMTP))(**options)
    return backend


def is_under_test() -> bool:
    """Tell whether Django's test setup has replaced the mailers, each by one that keeps mail in memory."""
    # An outbox alone proves nothing: locmem makes one wherever it is used, and from then on real mail would vanish.
    state = getattr(sys.modules.get("django.test.utils"), "_TestState", None)
    return hasattr(mail, "outbox") and hasattr(state, "saved_data")
