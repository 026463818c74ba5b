"""What happens to entries, written to the log: receivers of our own signals."""

import logging
from datetime import timedelta
from typing import Any

from mail_outbox import signals
from mail_outbox.conf import get_conf
from mail_outbox.core.outcomes import Kind, Outcome
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry

entries = logging.getLogger("mail_outbox")
attempts = logging.getLogger("mail_outbox.delivery")

NOT_AS_IT_SHOULD_BE = frozenset({State.FAILED, State.HELD})
NOBODY_EXPECTS = frozenset({Kind.MAILER, Kind.AMBIGUOUS})


def connect() -> None:
    """Listen to the signals; each receiver is connected once, however often this is called."""
    signals.entry_enqueued.connect(log_enqueued, dispatch_uid="mail_outbox.log_enqueued")
    signals.attempt_finished.connect(log_attempt, dispatch_uid="mail_outbox.log_attempt")
    signals.entry_settled.connect(log_settled, dispatch_uid="mail_outbox.log_settled")


def log_enqueued(*, entry: OutboxEntry, **_: object) -> None:
    """Log a new entry, after the commit."""
    if entries.isEnabledFor(logging.DEBUG):
        entries.debug("entry enqueued", extra={"entry": entry.pk, "mailer": entry.using, **_recipients(entry)})


def log_attempt(*, entry: OutboxEntry, outcome: Outcome, duration: timedelta | None, **_: object) -> None:
    """Log an attempt: what one expects as information, what somebody should look at as a warning."""
    level = logging.WARNING if outcome.kind in NOBODY_EXPECTS else logging.INFO
    if not attempts.isEnabledFor(level):
        return
    extra = {
        "entry": entry.pk,
        "mailer": entry.using,
        "attempt": entry.attempts,
        "outcome": str(outcome.kind),
        "code": outcome.code,
        "duration_ms": None if duration is None else round(duration.total_seconds() * 1000),
    }
    attempts.log(level, "attempt finished", extra={**extra, **_recipients(entry)})


def log_settled(*, entry: OutboxEntry, state: State, **_: object) -> None:
    """Log where an entry went: a warning where it will not go any further by itself."""
    level = logging.WARNING if state in NOT_AS_IT_SHOULD_BE else logging.DEBUG
    if entries.isEnabledFor(level):
        extra = {"entry": entry.pk, "mailer": entry.using, "attempt": entry.attempts, "state": str(state)}
        entries.log(level, "entry settled", extra={**extra, **_recipients(entry)})


def _recipients(entry: OutboxEntry) -> dict[str, Any]:
    """Return the addresses for the log, where the project has asked for them: that is a query each."""
    if not get_conf().log_recipients:
        return {}
    return {"recipients": list(entry.recipients.order_by("pk").values_list("address", flat=True))}
