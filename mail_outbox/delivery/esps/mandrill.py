"""Mandrill, which answers 500 to whatever it refuses."""

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery.esps.provider import Provider, Rule

# It also rejects for the sender, a rule or a limit.
OF_ANOTHER_KIND = r'\{(?![^{}]*"status":\s*"rejected")[^{}]*\}'
FOR_THE_ADDRESS = (
    r'\{(?=[^{}]*"status":\s*"rejected")[^{}]*"reject_reason":\s*"(?:hard-bounce|spam|unsub|custom)"[^{}]*\}'
)

MANDRILL = Provider(
    name="Mandrill",
    rules=(
        Rule(kind=Kind.MAILER, status=500, says=r'"name":\s*"(?:Invalid_Key|PaymentRequired|Unknown_Subaccount)"'),
        Rule(kind=Kind.PERMANENT, status=500, says=r'"name":\s*"(?:ValidationError|Unknown_Template)"'),
    ),
    message_id=True,
    suppresses=rf"\s*\[(?:\s*(?:{OF_ANOTHER_KIND}|{FOR_THE_ADDRESS}),?)+\s*\]\s*",
)
