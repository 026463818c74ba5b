"""Postmark, whose error codes come with a 422."""

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery.esps.provider import Provider, Rule

POSTMARK = Provider(
    name="Postmark",
    suppresses=".*",
    rules=(
        Rule(kind=Kind.THROTTLED, status=422, says=r'"ErrorCode":\s*429\b'),
        # The token, the sender signature, the account.
        Rule(kind=Kind.MAILER, status=422, says=r'"ErrorCode":\s*(?:10|400|401|405|412|413)\b'),
        # Maintenance.
        Rule(kind=Kind.TRANSIENT, status=422, says=r'"ErrorCode":\s*100\b', is_mailers=True),
    ),
)
