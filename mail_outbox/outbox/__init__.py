"""The public API: what application code calls to send mail and to steer it.

Everything is `from mail_outbox import outbox` and then `outbox.enqueue(message)`. The verbs that touch the database have
asynchronous twins under Django's naming (`aenqueue`); as everywhere in Django there is no asynchronous `atomic()`, so an
`aenqueue` commits by itself unless it runs inside a synchronous function that holds the transaction.
"""

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from mail_outbox.core.errors import (
    CancelDelivery,
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
from mail_outbox.outbox.acting import (
    cancel,
    change_mailer,
    hold,
    mark_sent,
    release,
    reschedule,
    resend,
    retry,
)
from mail_outbox.outbox.delivering import drain, send_now
from mail_outbox.outbox.enqueueing import enqueue, enqueue_as_django, enqueue_many
from mail_outbox.outbox.erasing import erase
from mail_outbox.outbox.files import FileReference, attach_file
from mail_outbox.outbox.flow import Health, MailerHealth, Problem, health
from mail_outbox.outbox.mailers import pause, resume
from mail_outbox.outbox.measuring import Durations, Measurement, all_problems, measure
from mail_outbox.outbox.options import HIGH, LOW, NORMAL
from mail_outbox.outbox.pruning import prune
from mail_outbox.outbox.recovering import QuarantineResult, adopt, quarantine
from mail_outbox.outbox.rotating import rotate_keys
from mail_outbox.outbox.suppressing import suppress, unsuppress
from mail_outbox.outbox.templates import UnknownTemplate, enqueue_template
from mail_outbox.outbox.watching import MailerStats, Stats, for_object, stats
from mail_outbox.transitions import EraseResult, PruneResult, RotateResult

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
areschedule = _async(reschedule)
amark_sent = _async(mark_sent)
achange_mailer = _async(change_mailer)
adrain = _async(drain)
astats = _async(stats)
ahealth = _async(health)
apause = _async(pause)
aresume = _async(resume)
aprune = _async(prune)
arotate_keys = _async(rotate_keys)
aerase = _async(erase)
asuppress = _async(suppress)
aunsuppress = _async(unsuppress)
aadopt = _async(adopt)
aquarantine = _async(quarantine)

__all__ = [
    "HIGH",
    "LOW",
    "NORMAL",
    "CancelDelivery",
    "DrainResult",
    "Durations",
    "EraseResult",
    "FileReference",
    "Health",
    "IdempotencyConflict",
    "InTransaction",
    "InvalidMessage",
    "InvalidOption",
    "MailerHealth",
    "MailerStats",
    "Measurement",
    "NotInTransaction",
    "OutboxError",
    "OutboxPaused",
    "Problem",
    "PruneResult",
    "QuarantineResult",
    "RotateResult",
    "Stats",
    "UnknownMailer",
    "UnknownTemplate",
    "UnreadableEnvelope",
    "UnserializableMessage",
    "WrongState",
    "aadopt",
    "acancel",
    "achange_mailer",
    "adopt",
    "adrain",
    "aenqueue",
    "aenqueue_many",
    "aenqueue_template",
    "aerase",
    "ahealth",
    "ahold",
    "all_problems",
    "amark_sent",
    "apause",
    "aprune",
    "aquarantine",
    "arelease",
    "areschedule",
    "aresend",
    "aresume",
    "aretry",
    "arotate_keys",
    "asend_now",
    "astats",
    "asuppress",
    "attach_file",
    "aunsuppress",
    "cancel",
    "change_mailer",
    "drain",
    "enqueue",
    "enqueue_as_django",
    "enqueue_many",
    "enqueue_template",
    "erase",
    "for_object",
    "health",
    "hold",
    "mark_sent",
    "measure",
    "pause",
    "prune",
    "quarantine",
    "release",
    "reschedule",
    "resend",
    "resume",
    "retry",
    "rotate_keys",
    "send_now",
    "stats",
    "suppress",
    "unsuppress",
]
