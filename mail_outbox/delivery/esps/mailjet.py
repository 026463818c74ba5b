"""Mailjet."""

from mail_outbox.delivery.esps.provider import Provider

MAILJET = Provider(name="Mailjet")
