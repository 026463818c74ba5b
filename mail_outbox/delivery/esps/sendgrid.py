"""SendGrid."""

from mail_outbox.delivery.esps.provider import Provider

SENDGRID = Provider(name="SendGrid")
