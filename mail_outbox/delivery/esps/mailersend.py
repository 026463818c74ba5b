"""MailerSend."""

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery.esps.provider import Provider, Rule

MAILERSEND = Provider(
    name="MailerSend",
    rules=(Rule(kind=Kind.PERMANENT, status=202, says=r'"type":\s*"ALL_SUPPRESSED"'),),
    metadata=False,
    suppresses=".*",
)
