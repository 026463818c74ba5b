"""The mailers: each can be imported, is named rightly, sends, and does so in bounded time."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from django.core import mail
from django.core.checks import CheckMessage
from django.core.mail.backends.smtp import EmailBackend as SMTPBackend
from django.utils.module_loading import import_string

from mail_outbox import conf as settings
from mail_outbox.checks.messages import error, warning
from mail_outbox.conf import Conf
from mail_outbox.core.errors import did_you_mean
from mail_outbox.delivery.mailers import SMTP, EnqueuesAgain, make_backend


def bad_backends() -> Iterator[CheckMessage]:
    """Check that every backend can be imported."""
    for alias, mailer in settings.known_mailers().items():
        try:
            _backend_of(mailer)
        except (ImportError, AttributeError) as problem:
            hint = f"Correct {_where()}['{alias}']['BACKEND'], or install what it needs."
            yield error(3, f"The backend of mailer '{alias}' cannot be imported: {problem}", hint)


def unknown_mailers(conf: Conf) -> Iterator[CheckMessage]:
    """Check that every alias in the settings is the alias of a mailer."""
    known = settings.known_mailers()
    named = [("MAIL_OUTBOX['USING']", conf.using)]
    named += [("MAIL_OUTBOX['MAILER_OPTIONS']", alias) for alias in conf.mailer_options]
    named += [(f"{_where()}['{alias}']['OPTIONS']['using']", using) for alias, using in _outboxes()]
    for where, alias in named:
        if alias is not None and alias not in known:
            yield error(
                2, f"{where} names mailer '{alias}', which is not configured.", did_you_mean(alias, known).strip()
            )


def loops(conf: Conf) -> Iterator[CheckMessage]:
    """Check that what goes into the outbox comes out through a mailer that is no outbox."""
    known, real = settings.known_mailers(), settings.real_mailers()
    if not real:
        hint = f"Add the mailer that really sends to {_where()}, and name it in MAIL_OUTBOX['USING']."
        yield error(4, "Every mailer is the outbox, and none sends.", hint)
        return
    senders = ", ".join(real)
    if conf.using in known and conf.using not in real:
        yield error(
            4, f"MAIL_OUTBOX['USING'] names '{conf.using}', the outbox itself.", f"Name one that sends: {senders}."
        )
    for alias in real:
        if _enqueues(alias, known[alias]):
            hint = (
                f"Name one that sends in {_where()}. An outbox must have {settings.OUTBOX_BACKEND} itself for BACKEND."
            )
            yield error(4, f"Mailer '{alias}' is taken for one that sends, but it is the outbox.", hint)
    for alias, using in _outboxes():
        target = using or settings.default_mailer()
        if target is None or (using in known and using not in real):
            problem = "is not told which mailer sends" if target is None else f"would deliver to '{target}', an outbox"
            hint = f"Set {_where()}['{alias}']['OPTIONS']['using'] to one of: {senders}."
            yield error(4, f"Mailer '{alias}' {problem}.", hint)


def smtp_timeouts(conf: Conf) -> Iterator[CheckMessage]:
    """Check that every SMTP mailer has a timeout."""
    for alias in settings.real_mailers():
        mailer = settings.known_mailers()[alias]
        kind = _backend_of(mailer)
        if isinstance(kind, type) and issubclass(kind, SMTPBackend) and not _has_timeout(kind, alias, mailer):
            yield warning(
                "E008",
                f"Mailer '{alias}' sends over SMTP without a timeout of its own.",
                f"Set {_where()}['{alias}']['OPTIONS']['timeout'] = 30 (before Django 6.1 EMAIL_TIMEOUT does, too).",
            )


def _where() -> str:
    return "MAILERS" if settings.uses_django_mailers() else "MAIL_OUTBOX['MAILERS']"


def _outboxes() -> list[tuple[str, str | None]]:
    """List the mailers that are the outbox itself, each with the mailer it is told to deliver through."""
    real = settings.real_mailers()
    mailers = settings.known_mailers().items()
    return [(alias, mailer.get("OPTIONS", {}).get("using")) for alias, mailer in mailers if alias not in real]


def _backend_of(mailer: Mapping[str, Any]) -> Any:
    """Import the backend's class; None where only Django knows which it is."""
    return import_string(mailer.get("BACKEND", SMTP)) if mailer else None


def _enqueues(alias: str, mailer: Mapping[str, Any]) -> bool:
    kind = _backend_of(mailer)
    if kind is not None:
        return getattr(kind, "enqueues", False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Django has its own words for settings it no longer likes
            make_backend(alias)
    except EnqueuesAgain:
        return True
    except Exception:  # noqa: BLE001
        return False  # a mailer that cannot be made does not enqueue
    return False


def _has_timeout(kind: type[SMTPBackend], alias: str, mailer: Mapping[str, Any]) -> bool:
    named = {"alias": alias} if hasattr(mail, "mailers") else {}
    try:
        backend = kind(**{**mailer.get("OPTIONS", {}), **named})
    except Exception:  # noqa: BLE001
        return True  # options that do not fit are another story, and Django tells it better
    return backend.timeout is not None
