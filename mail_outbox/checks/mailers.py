"""The mailers: each can be imported, is named rightly, sends, and does so in bounded time."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from django.core import mail
from django.core.checks import CheckMessage
from django.core.mail.backends.smtp import EmailBackend as SMTPBackend
from django.utils.log import AdminEmailHandler
from django.utils.module_loading import import_string

from mail_outbox import conf as settings
from mail_outbox.checks.messages import error, warning
from mail_outbox.conf import Conf
from mail_outbox.core.errors import did_you_mean
from mail_outbox.delivery.esps import amazon_ses
from mail_outbox.delivery.mailers import SMTP, EnqueuesAgain, make_backend


def bad_backends() -> Iterator[CheckMessage]:
    """Check that every backend can be imported."""
    for alias, mailer in settings.known_mailers().items():
        try:
            backend_of(mailer)
        except (ImportError, AttributeError) as problem:
            hint = f"Correct {_where()}['{alias}']['BACKEND'], or install what it needs."
            yield error(3, f"The backend of mailer '{alias}' cannot be imported: {problem}", hint)


def unknown_mailers(conf: Conf) -> Iterator[CheckMessage]:
    """Check that every alias in the settings is the alias of a mailer, or the name of a route where that will do."""
    mailers = set(settings.known_mailers())
    either = mailers | set(conf.routes)
    named: list[tuple[str, str | None, set[str]]] = [("MAIL_OUTBOX['USING']", conf.using, either)]
    named += [("MAIL_OUTBOX['MAILER_OPTIONS']", alias, mailers) for alias in conf.mailer_options]
    named += [(f"{_where()}['{alias}']['OPTIONS']['using']", using, either) for alias, using in _outboxes()]
    for where, alias, known in named:
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
    for alias, backend in _instances():
        if isinstance(backend, SMTPBackend) and backend.timeout is None:
            yield warning(
                "E008",
                f"Mailer '{alias}' sends over SMTP without a timeout of its own.",
                f"Set {_where()}['{alias}']['OPTIONS']['timeout'] = 30 (before Django 6.1 EMAIL_TIMEOUT does, too).",
            )


def smtp_without_tls(conf: Conf) -> Iterator[CheckMessage]:
    """Check that no SMTP mailer speaks to another machine in plain text."""
    for alias, backend in _instances():
        if isinstance(backend, SMTPBackend) and not (backend.use_tls or backend.use_ssl or _is_here(backend.host)):
            yield warning(
                "W011",
                f"Mailer '{alias}' sends over SMTP without TLS: anybody on the way can read, and change, what it sends.",
                f"Set {_where()}['{alias}']['OPTIONS']['use_tls'] (or 'use_ssl') to True.",
            )


def repeated_requests(conf: Conf) -> Iterator[CheckMessage]:
    """Check that no mailer repeats requests by itself."""
    for alias, backend in _instances():
        if amazon_ses.repeats(backend):
            yield error(
                9,
                f"Mailer '{alias}' lets boto3 repeat requests: a message whose answer is lost is sent up to three times.",
                f"Set {_where()}['{alias}']['OPTIONS']['client_params'] to "
                "{'config': {'retries': {'total_max_attempts': 1}}}: the outbox repeats, and knows when it may.",
            )


def printed_requests(conf: Conf) -> Iterator[CheckMessage]:
    """Check that no mailer of Anymail's prints what it sends."""
    for alias, backend in _instances():
        if getattr(backend, "debug_api_requests", False):
            yield warning(
                "W007",
                f"Mailer '{alias}' prints every message it sends, with its recipients and whatever secrets it holds.",
                f"Remove DEBUG_API_REQUESTS from ANYMAIL, or 'debug_api_requests' from {_where()}['{alias}']['OPTIONS'].",
            )


def mailed_errors(conf: Conf) -> Iterator[CheckMessage]:
    """Check that errors are not mailed through the outbox, where the transaction that failed takes them along."""
    option = "using" if settings.uses_django_mailers() else "email_backend"
    for handler in _admin_handlers() if settings.has_admins() else ():
        named = getattr(handler, option, None)
        backend = named if named and option == "email_backend" else settings.djangos_backend(named)
        if backend == settings.OUTBOX_BACKEND:
            sender = "a mailer that sends" if option == "using" else "the dotted name of a backend that sends"
            yield warning(
                "W010",
                "Errors are mailed to ADMINS through the outbox: a rollback takes them along, and a database in trouble, too.",
                f"Set LOGGING['handlers']['{handler.name or 'mail_admins'}']['{option}'] to {sender}.",
            )


def _admin_handlers() -> list[AdminEmailHandler]:
    loggers = [logging.root, *(each for each in logging.root.manager.loggerDict.values())]
    handlers = [handler for each in loggers for handler in getattr(each, "handlers", ())]
    return [handler for handler in dict.fromkeys(handlers) if isinstance(handler, AdminEmailHandler)]


def _is_here(host: str | None) -> bool:
    if not host or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _where() -> str:
    return "MAILERS" if settings.uses_django_mailers() else "MAIL_OUTBOX['MAILERS']"


def _outboxes() -> list[tuple[str, str | None]]:
    """List the mailers that are the outbox itself, each with the mailer it is told to deliver through."""
    real = settings.real_mailers()
    mailers = settings.known_mailers().items()
    return [(alias, mailer.get("OPTIONS", {}).get("using")) for alias, mailer in mailers if alias not in real]


def backend_of(mailer: Mapping[str, Any]) -> Any:
    """Import the backend's class; None where only Django knows which it is."""
    return import_string(mailer.get("BACKEND", SMTP)) if mailer else None


def _enqueues(alias: str, mailer: Mapping[str, Any]) -> bool:
    kind = backend_of(mailer)
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


def _instances() -> Iterator[tuple[str, Any]]:
    """Make an instance of every mailer over SMTP and of Anymail's; of the others making one may have effects."""
    for alias in settings.real_mailers():
        mailer = settings.known_mailers()[alias]
        kind = backend_of(mailer)
        if not (isinstance(kind, type) and (issubclass(kind, SMTPBackend) or hasattr(kind, "esp_name"))):
            continue
        named = {"alias": alias} if hasattr(mail, "mailers") else {}
        try:
            with warnings.catch_warnings(action="ignore"):
                backend = kind(**{**mailer.get("OPTIONS", {}), **named})
        except Exception:  # noqa: BLE001, S112
            continue  # options that do not fit are another story, and Django and Anymail tell it better
        yield alias, backend
