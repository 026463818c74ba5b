"""Scaleway."""

from mail_outbox.delivery.esps.provider import Provider

SCALEWAY = Provider(name="Scaleway")
