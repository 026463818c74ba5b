"""One entry for a terminal or for JSON, without the secrets of sensitive mail."""

from typing import Any

from mail_outbox.core.redaction import redact
from mail_outbox.models import Attempt, OutboxEntry

SHOWN_SUBJECT = 50


def line_of(entry: OutboxEntry) -> str:
    """Return the entry in one line."""
    outcome = " ".join(filter(None, [entry.outcome_kind, entry.outcome_code]))
    parts = [str(entry.pk), entry.state, entry.using, f"{entry.due_at:%Y-%m-%d %H:%M:%S}", subject_of(entry), outcome]
    return "  ".join(filter(None, parts))


def subject_of(entry: OutboxEntry) -> str:
    """Return the subject for a terminal: nobody's secret, and not longer than a line."""
    subject = "".join(character if character.isprintable() else "\ufffd" for character in words(entry, entry.subject))
    return subject if len(subject) <= SHOWN_SUBJECT else subject[: SHOWN_SUBJECT - 1] + "…"


def words(entry: OutboxEntry, text: str) -> str:
    """Return a text that the mail, or a provider who quotes it, may have put a secret in."""
    return redact(text) if entry.sensitive else text


def as_dict(entry: OutboxEntry) -> dict[str, Any]:
    """Return the entry as plain values for JSON."""
    outcome = {"kind": entry.outcome_kind, "code": entry.outcome_code, "text": words(entry, entry.outcome_text)}
    return {
        "id": entry.pk,
        "state": entry.state,
        "state_reason": words(entry, entry.state_reason),
        "using": entry.using,
        "attempts": entry.attempts,
        "due_at": entry.due_at.isoformat(),
        "created_at": entry.created_at.isoformat(),
        "finished_at": None if entry.finished_at is None else entry.finished_at.isoformat(),
        "subject": words(entry, entry.subject),
        "template": entry.template,
        "outcome": outcome,
    }


def details(entry: OutboxEntry) -> dict[str, Any]:
    """Return all that is known of the entry as plain values."""
    recipients = entry.recipients.order_by("pk").values("role", "address", "status", "code", "text")
    return {
        **as_dict(entry),
        "uuid": str(entry.uuid),
        "message_id": entry.message_id,
        "route": entry.route,
        "priority": entry.priority,
        "expires_at": None if entry.expires_at is None else entry.expires_at.isoformat(),
        "related": entry.related,
        "tags": entry.tags,
        "sensitive": entry.sensitive,
        "resent_from": entry.resent_from_id,
        "recipients": [{**recipient, "text": words(entry, recipient["text"])} for recipient in recipients],
        "history": [_attempt(entry, attempt) for attempt in entry.attempt_set.order_by("number", "pk")],
    }


def _attempt(entry: OutboxEntry, attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "started_at": attempt.started_at.isoformat(),
        "duration_ms": None if attempt.duration is None else round(attempt.duration.total_seconds() * 1000),
        "using": attempt.using,
        "worker": attempt.worker,
        "kind": attempt.kind,
        "code": attempt.code,
        "text": words(entry, attempt.text),
        "provider_message_id": attempt.provider_message_id,
    }
