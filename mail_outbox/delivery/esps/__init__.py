"""Providers behind Anymail: one small module for each, and a line here."""

from typing import Any, TypeGuard

from django.core.mail.backends.base import BaseEmailBackend

from mail_outbox.core.loaded import loaded
from mail_outbox.delivery.esps.amazon_ses import AMAZON_SES
from mail_outbox.delivery.esps.brevo import BREVO
from mail_outbox.delivery.esps.mailersend import MAILERSEND
from mail_outbox.delivery.esps.mailgun import MAILGUN
from mail_outbox.delivery.esps.mailjet import MAILJET
from mail_outbox.delivery.esps.mailtrap import MAILTRAP
from mail_outbox.delivery.esps.mandrill import MANDRILL
from mail_outbox.delivery.esps.postal import POSTAL
from mail_outbox.delivery.esps.postmark import POSTMARK
from mail_outbox.delivery.esps.provider import Provider
from mail_outbox.delivery.esps.resend import RESEND
from mail_outbox.delivery.esps.scaleway import SCALEWAY
from mail_outbox.delivery.esps.sendgrid import SENDGRID
from mail_outbox.delivery.esps.sparkpost import SPARKPOST
from mail_outbox.delivery.esps.unisender_go import UNISENDER_GO

__all__ = ["PROVIDERS", "Provider", "is_anymails", "provider_behind", "provider_of"]

PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        AMAZON_SES,
        BREVO,
        MAILERSEND,
        MAILGUN,
        MAILJET,
        MAILTRAP,
        MANDRILL,
        POSTAL,
        POSTMARK,
        RESEND,
        SCALEWAY,
        SENDGRID,
        SPARKPOST,
        UNISENDER_GO,
    )
}


def provider_of(name: str) -> Provider:
    """Return what is particular to the provider that Anymail calls so; nothing is, where we do not know it."""
    return PROVIDERS.get(name) or Provider(name=name)


def provider_behind(backend: BaseEmailBackend) -> Provider | None:
    """Return what is particular to the provider behind the backend; None where the backend is not Anymail's."""
    return provider_of(backend.esp_name) if is_anymails(backend) else None


def is_anymails(backend: BaseEmailBackend) -> TypeGuard[Any]:
    """Tell whether the backend is one of Anymail's; that takes no Anymail, which brings requests along."""
    return isinstance(backend, loaded("anymail.backends.base", "AnymailBaseBackend"))
