"""Unisender Go."""

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery.esps.provider import Provider, Rule

UNISENDER_GO = Provider(
    name="Unisender Go",
    suppresses=".*",
    # The account lives in another data centre.
    rules=(Rule(kind=Kind.MAILER, says=r'"code":\s*114\b'),),
)
