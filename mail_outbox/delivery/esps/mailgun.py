"""Mailgun."""

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery.esps.provider import Provider, Rule

MAILGUN = Provider(
    name="Mailgun",
    # What its API answers at an address that does not exist.
    rules=(Rule(kind=Kind.MAILER, status=200, says="Mailgun Magnificent API"),),
    message_id=True,
)
