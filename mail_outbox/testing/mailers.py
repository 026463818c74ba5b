"""Other mailers for the length of a test: the drop-in backend, and a provider that obeys a script."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django.test import override_settings

from mail_outbox import conf as settings
from mail_outbox.delivery.mailers import LOCMEM, SCRIPTED
from mail_outbox.delivery.scripted import Provider, ScriptedBackend

Mailers = Mapping[str, Mapping[str, Any]]

OUTBOX = settings.OUTBOX_BACKEND
DELIVERING = "delivering"
"""The mailer behind the drop-in, where the project has none but the drop-in's own alias."""


@contextmanager
def scripted_provider() -> Iterator[Provider]:
    """Let every mailer that delivers be one provider that obeys a script, and yield it; the outbox's own stay."""
    known = settings.known_mailers()
    mailers = {alias: mailer if _enqueues(mailer) else {"BACKEND": SCRIPTED} for alias, mailer in known.items()}
    before, provider = ScriptedBackend.provider, Provider()
    with _mailers(mailers):
        ScriptedBackend.provider = provider
        try:
            yield provider
        finally:
            ScriptedBackend.provider = before


def outbox_backend() -> AbstractContextManager[Any]:
    """Turn the drop-in on, which Django's tests turn off: `send_mail()` writes to the outbox.

    Mailers that are the outbox in the project's settings are the outbox again; where there is none, `default` is. The
    others keep delivering into `django.core.mail.outbox`.
    """
    if not settings.uses_django_mailers():
        mailers = {alias: mailer for alias, mailer in settings.known_mailers().items() if not _enqueues(mailer)}
        return override_settings(
            EMAIL_BACKEND=OUTBOX,
            MAIL_OUTBOX={**settings.as_given(), "MAILERS": mailers or {"default": {"BACKEND": LOCMEM}}},
        )
    known = dict(settings.known_mailers())
    outboxes = {alias: mailer for alias, mailer in _as_in_production(known).items() if _enqueues(mailer)}
    if not outboxes:
        target = settings.default_mailer() or DELIVERING
        if target == "default":
            target = DELIVERING
            known[target] = known["default"]
        outboxes = {"default": {"BACKEND": OUTBOX, "OPTIONS": {"using": target}}}
    return _mailers({**known, **outboxes})


def _mailers(mailers: Mailers) -> AbstractContextManager[Any]:
    """Configure the mailers where this Django has them."""
    if settings.uses_django_mailers():
        return override_settings(MAILERS=mailers)
    return override_settings(MAIL_OUTBOX={**settings.as_given(), "MAILERS": mailers})


def _as_in_production(known: Mailers) -> Mailers:
    """Return the mailers as they were before Django's test setup swapped every one of them for locmem."""
    state = getattr(sys.modules.get("django.test.utils"), "_TestState", None)
    saved: Mailers = getattr(getattr(state, "saved_data", None), "mailers", known)
    return {**saved, **{alias: mailer for alias, mailer in known.items() if _enqueues(mailer)}}


def _enqueues(mailer: Mapping[str, Any]) -> bool:
    return mailer.get("BACKEND") == OUTBOX
