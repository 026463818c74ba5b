"""One mail as a background task sends it, through a connection that its process keeps open."""

from functools import cache
from typing import Any


def send(number: int, subject: str, text: str, html: str, to: str) -> None:
    """Build the message and send it."""
    from django.core.mail import EmailMultiAlternatives

    from benchmarks.message import SENDER

    message = EmailMultiAlternatives(subject, text, SENDER, [to])
    message.attach_alternative(html, "text/html")
    _backend().send_messages([message])


@cache
def _backend() -> Any:
    from django.conf import settings
    from django.utils.module_loading import import_string

    mailer = settings.BENCHMARK_MAILER
    backend = import_string(mailer["BACKEND"])(**mailer["OPTIONS"])
    backend.open()
    return backend
