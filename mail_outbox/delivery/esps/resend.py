"""Resend, which knows idempotency keys (https://resend.com/docs/dashboard/emails/idempotency-keys)."""

from datetime import timedelta

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery.esps.provider import QUOTA, Key, Provider, Rule

RESEND = Provider(
    name="Resend",
    rules=(
        Rule(kind=Kind.THROTTLED, status=429, says="(?:daily|monthly)_quota_exceeded", wait=QUOTA),
        # The same key with another body: a mistake of ours, which a repetition cannot mend.
        Rule(kind=Kind.PERMANENT, status=409, says="invalid_idempotent_request"),
    ),
    key=Key(header="Idempotency-Key", lifetime=timedelta(hours=24)),
)
