"""Mailtrap."""

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery.esps.provider import Provider, Rule

MAILTRAP = Provider(
    name="Mailtrap",
    rules=(Rule(kind=Kind.PERMANENT, status=200, says=r'"success":\s*false|"errors":\s*\[\s*[^\s\]]'),),
)
