"""The project's own hook before delivery: functions that may change a message, or stop it."""

import copy
import logging
import traceback

from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage

from mail_outbox import conf as settings
from mail_outbox.core.errors import CancelDelivery
from mail_outbox.core.outcomes import INTERCEPTOR, Cancelled, MailerTrouble, Outcome, Transient
from mail_outbox.delivery.text import clean
from mail_outbox.models import OutboxEntry

logger = logging.getLogger("mail_outbox.delivery")


def intercept(message: EmailMessage, entry: OutboxEntry) -> EmailMessage | Outcome:
    """Let every interceptor have the message in turn, and return what is to be sent, or the outcome where nothing is.

    The entry they are given is a copy, because the engine goes on to work with its own. Whatever goes wrong is an
    outcome, never an exception: nothing has been sent yet.
    """
    try:
        interceptors = settings.interceptors()
    except Exception as error:  # noqa: BLE001 - importing a project's module can raise anything
        return MailerTrouble(code="configuration", text=clean(f"MAIL_OUTBOX['INTERCEPTORS']: {_named(error)}"))
    for name, interceptor in interceptors:
        try:
            returned: object = interceptor(message, copy.copy(entry))
        except CancelDelivery as reason:
            return Cancelled(code=INTERCEPTOR, text=clean(reason) or f"cancelled by {name}")
        except BaseException as error:  # noqa: BLE001 - SystemExit too: the thread lives on
            return _failed(name, type(error).__name__, entry, at=_where(error))
        if isinstance(returned, EmailMessage):
            message = returned
        elif returned is not None:
            return _failed(name, f"it returned a {type(returned).__name__}, neither None nor a message", entry, at="")
    return message


def _failed(name: str, problem: str, entry: OutboxEntry, *, at: str) -> Outcome:
    # Not what the exception says, nor its traceback, which quotes it: both may hold an address.
    logger.error("interceptor failed", extra={"entry": entry.pk, "interceptor": name, "error": problem, "at": at})
    return Transient(code=INTERCEPTOR, text=f"{name}: {problem}")


def _named(error: Exception) -> str:
    # An import that fails says which module is missing; of anything else only the type is sure to be harmless.
    return str(error) if isinstance(error, ImportError | ImproperlyConfigured) else type(error).__name__


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
