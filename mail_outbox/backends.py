"""Mail backends: the drop-in that enqueues instead of sending, and the sink that only pretends to send."""

import functools
import itertools
import logging
import random
import smtplib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.core.mail import message as django_message
from django.core.mail.backends.base import BaseEmailBackend
from django.db import Error as DatabaseError
from django.db import connections

from mail_outbox import outbox
from mail_outbox.conf import get_conf

logger = logging.getLogger("mail_outbox")

# Since Django 6.0 it is ValueError itself, and some day it will be gone.
DjangoBadHeader: type[ValueError] = getattr(django_message, "BadHeaderError", ValueError)


class BadHeader(outbox.InvalidMessage, DjangoBadHeader):  # type: ignore[misc,valid-type]
    """Django, too, refuses the message, so that `except BadHeaderError` goes on catching it."""


class OutboxBackend(BaseEmailBackend):
    """Django's mail functions, writing to the outbox in the caller's transaction instead of sending.

    The option `using` names the mailer that delivers; without it the outbox's default does. `send_messages`, and with it
    `send_mail`, returns how many messages were accepted into the outbox: what becomes of them stands in the outbox.
    """

    enqueues = True
    """Whether what it is given becomes a new entry, so that a worker must never deliver through it."""

    def __init__(self, *, using: str | None = None, fail_silently: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.using = using
        self.fail_silently = fail_silently

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Enqueue the messages, and return how many were accepted into the outbox."""
        return sum(self._accept(message) for message in email_messages if message.recipients())

    def _accept(self, message: EmailMessage) -> bool:
        try:
            outbox.enqueue_as_django(message, using=self.using)
        except outbox.InvalidMessage as error:
            if _is_refused_by_django(message):
                raise BadHeader(str(error)) from error
            return self._complain(error)
        except outbox.OutboxError as error:
            return self._complain(error)
        except DatabaseError as error:
            if connections[get_conf().databases[0]].in_atomic_block:
                # The transaction is broken now, and whoever opened it has to know.
                raise
            return self._complain(error)
        return True

    def _complain(self, error: Exception) -> bool:
        """Raise the error again, or, where the caller asked for silence, log it and return that nothing was accepted."""
        if not self.fail_silently:
            raise error
        # Not the text, which may hold an address.
        logger.error("message not accepted into the outbox", extra={"error": type(error).__name__})
        return False


def _is_refused_by_django(message: EmailMessage) -> bool:
    """Tell whether Django itself raises when it builds the message: a header with a newline, mostly."""
    try:
        message.message()
    except ValueError:
        return True
    except Exception:  # noqa: BLE001
        # Content that nobody can build is another story: we have said already what is wrong with it.
        return False
    return False


class SinkBackend(BaseEmailBackend):
    """Accepts everything and sends nothing, for demos and development.

    Options: `latency`, how many seconds a message really takes; `chaos`, the share of messages (0 to 1) that fails, in
    turn by a transient error (SMTPDataError 451), an ambiguous one (SMTPServerDisconnected, as when the connection is
    lost after the final dot) and a permanent refusal (SMTPDataError 554); `seed`, to draw the same share in each process.
    """

    def __init__(
        self,
        *,
        latency: float = 0,
        chaos: float = 0,
        seed: int | None = None,
        fail_silently: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if latency < 0:
            raise ImproperlyConfigured(f"SinkBackend: latency={latency} is negative. Give seconds, from 0.")
        if not 0 <= chaos <= 1:
            raise ImproperlyConfigured(f"SinkBackend: chaos={chaos} is no share. Give a number from 0 to 1.")
        self.latency = latency
        self.fail_silently = fail_silently
        self._chaos = _chaos_of(chaos, seed)

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Take as long as it takes, fail as often as asked, and return how many messages were accepted."""
        return sum(self._swallow() for message in email_messages if message.recipients())

    def _swallow(self) -> bool:
        if self.latency:
            time.sleep(self.latency)
        error = self._chaos.draw()
        if error is not None and not self.fail_silently:
            raise error
        return error is None


class Chaos:
    """Decides for one message after the other whether it fails, and how."""

    def __init__(self, share: float, seed: int | None) -> None:
        self._share = share
        # Without a seed it must not be a state that forked workers inherit, or all of them would fail in step.
        self._random = random.SystemRandom() if seed is None else random.Random(seed)
        self._errors = _errors()
        self._lock = threading.Lock()

    def draw(self) -> smtplib.SMTPException | None:
        """Return the error the next message meets, or None where it is accepted."""
        if not self._share:
            return None
        with self._lock:
            return next(self._errors) if self._random.random() < self._share else None


def _errors() -> Iterator[smtplib.SMTPException]:
    """Yield errors of every kind in turn, in the words in which `delivery` hears them from a real server."""
    for turn in itertools.count():
        match turn % 3:
            case 0:
                yield smtplib.SMTPDataError(451, b"4.3.0 chaos: try again later")
            case 1:
                yield smtplib.SMTPServerDisconnected("chaos: connection lost after hand-over")
            case 2:
                yield smtplib.SMTPDataError(554, b"5.6.0 chaos: refused for good")


# A worker makes a new backend after every error, so the sequence has to outlive it.
_chaos_of = functools.cache(Chaos)
