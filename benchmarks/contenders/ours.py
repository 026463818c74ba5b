"""The outbox itself, drained as `manage.py outbox drain` does it."""

from typing import Any

APPS = ("django_q", "mail_outbox")
PACKAGE = "mail_outbox"
FORKS = False


def settings(mailer: dict[str, Any], *, processes: int, senders: int) -> dict[str, Any]:
    """Return the settings of a process."""
    import django

    outbox: dict[str, Any] = {"MAILER_OPTIONS": {"default": {"concurrency": senders}}}
    mailers = {"default": mailer}
    cluster = {
        "name": "benchmarks",
        "orm": "default",
        "workers": processes,
        "poll": 0.2,
        "timeout": 240,
        "retry": 300,
        "max_attempts": 1,
        "ack_failures": True,
        "catch_up": False,
    }
    if django.VERSION >= (6, 1):
        return {"MAILERS": mailers, "MAIL_OUTBOX": outbox, "Q_CLUSTER": cluster}
    return {"MAIL_OUTBOX": {**outbox, "MAILERS": mailers}, "Q_CLUSTER": cluster}


def fill(count: int, attachment: int = 0) -> None:
    """Enqueue so many messages, each with an attachment of its own of so many bytes."""
    import os

    from benchmarks.message import a_message
    from mail_outbox import outbox

    def messages() -> Any:
        for number in range(count):
            message = a_message(number)
            if attachment:
                message.attach("report.bin", os.urandom(attachment), "application/octet-stream")
            yield message

    outbox.enqueue_many(messages())


def enqueue(number: int) -> None:
    """Enqueue one message."""
    from benchmarks.message import a_message
    from mail_outbox import outbox

    outbox.enqueue(a_message(number))


def drain(count: int = 0, rendering: str = "cached") -> int:
    """Drain until nothing is left, and return how many were sent."""
    from email.policy import SMTP

    from mail_outbox import outbox
    from mail_outbox.delivery import stamps
    from mail_outbox.delivery.policy import REMEMBERING_SMTP

    if "policy" in stamps.FOR_BYTES:
        stamps.FOR_BYTES["policy"] = SMTP if rendering == "stock" else REMEMBERING_SMTP
    return outbox.drain().sent


def clear() -> None:
    """Empty the outbox."""
    from mail_outbox.models import (
        Attachment,
        AttachmentChunk,
        AttachmentUse,
        Attempt,
        EntryContent,
        OutboxEntry,
        Recipient,
    )

    for model in (AttachmentUse, AttachmentChunk, Attachment, EntryContent, Recipient, Attempt, OutboxEntry):
        rows = model._base_manager.all()
        rows._raw_delete(rows.db)
