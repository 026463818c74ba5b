"""The public API: what application code calls to send mail and to steer it.

Everything is `from mail_outbox import outbox` and then `outbox.enqueue(message)`. The verbs that touch the database have
asynchronous twins under Django's naming (`aenqueue`); as everywhere in Django there is no asynchronous `atomic()`, so an
`aenqueue` commits by itself unless it runs inside a synchronous function that holds the transaction.
"""

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from mail_outbox.core.errors import (
    IdempotencyConflict,
    InTransaction,
    InvalidMessage,
    InvalidOption,
    NotInTransaction,
    OutboxError,
    OutboxPaused,
    UnknownMailer,
    UnreadableEnvelope,
    UnserializableMessage,
    WrongState,
)
from mail_outbox.drain import DrainResult
from mail_outbox.outbox.acting import cancel, hold, release, resend, retry
from mail_outbox.outbox.delivering import drain, send_now
from mail_outbox.outbox.enqueueing import enqueue, enqueue_as_django, enqueue_many
from mail_outbox.outbox.mailers import pause, resume
from mail_outbox.outbox.options import HIGH, LOW, NORMAL
from mail_outbox.outbox.templates import UnknownTemplate, enqueue_template
from mail_outbox.outbox.watching import MailerStats, Stats, for_object, stats

P = ParamSpec("P")
R = TypeVar("R")


def _async(verb: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Return the asynchronous twin of a verb; it runs in Django's one synchronous thread."""
    return sync_to_async(verb, thread_sensitive=True)


aenqueue = _async(enqueue)
aenqueue_many = _async(enqueue_many)
aenqueue_template = _async(enqueue_template)
asend_now = _async(send_now)
acancel = _async(cancel)
aretry = _async(retry)
aresend = _async(resend)
ahold = _async(hold)
arelease = _async(release)
adrain = _async(drain)
astats = _async(stats)
apause = _async(pause)
aresume = _async(resume)

__all__ = [
    "HIGH",
    "LOW",
    "NORMAL",
    "DrainResult",
    "IdempotencyConflict",
    "InTransaction",
    "InvalidMessage",
    "InvalidOption",
    "MailerStats",
    "NotInTransaction",
    "OutboxError",
    "OutboxPaused",
    "Stats",
    "UnknownMailer",
    "UnknownTemplate",
    "UnreadableEnvelope",
    "UnserializableMessage",
    "WrongState",
    "acancel",
    "adrain",
    "aenqueue",
    "aenqueue_many",
    "aenqueue_template",
    "ahold",
    "apause",
    "arelease",
    "aresend",
    "aresume",
    "aretry",
    "asend_now",
    "astats",
    "cancel",
    "drain",
    "enqueue",
    "enqueue_as_django",
    "enqueue_many",
    "enqueue_template",
    "for_object",
    "hold",
    "pause",
    "release",
    "resend",
    "resume",
    "retry",
    "send_now",
    "stats",
]
