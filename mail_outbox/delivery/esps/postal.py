"""Postal, which answers 200 to everything."""

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery.esps.provider import Provider, Rule

POSTAL = Provider(
    name="Postal",
    rules=(
        Rule(kind=Kind.MAILER, status=200, says=r'"code":\s*"(?:InvalidServerAPIKey|AccessDenied|ServerSuspended)"'),
        Rule(kind=Kind.PERMANENT, status=200, says=r'"status":\s*"(?:parameter-)?error"'),
    ),
    metadata=False,
)
