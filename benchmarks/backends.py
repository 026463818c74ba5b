"""A mailer that takes everything and keeps nothing."""

from collections.abc import Sequence

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend


class NullBackend(BaseEmailBackend):
    """Accepts at once, without a network."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Say that all have gone."""
        return len(email_messages)
