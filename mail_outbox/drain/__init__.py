"""The engine: promote, claim, hand to senders, settle, rescue."""

from mail_outbox.drain.engine import Engine
from mail_outbox.drain.result import DrainResult
from mail_outbox.drain.single import admission, deliver_claim, deliver_due, is_mailer_paused

__all__ = ["DrainResult", "Engine", "admission", "deliver_claim", "deliver_due", "is_mailer_paused"]
