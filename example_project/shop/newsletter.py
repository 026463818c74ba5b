"""The newsletter: a bulk that single orders overtake."""

from collections.abc import Iterator

from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

from mail_outbox import outbox
from mail_outbox.models import OutboxEntry

READERS = 500


def send_newsletter(*, readers: int = READERS) -> list[OutboxEntry]:
    """Enqueue the newsletter to so many readers, and return the entries.

    It has a mailer of its own and a low priority, so that nobody who buys something waits for it.
    """
    return outbox.enqueue_many(_newsletters(readers), using="newsletter", priority=outbox.LOW, tags=["newsletter"])


def _newsletters(readers: int) -> Iterator[EmailMultiAlternatives]:
    for number in range(1, readers + 1):
        context = {"reader": f"reader {number}"}
        message = EmailMultiAlternatives(
            subject="News from the teapot shop",
            body=render_to_string("shop/mail/newsletter.txt", context),
            from_email="Teapot news <news@example.com>",
            to=[f"reader{number}@example.com"],
        )
        message.attach_alternative(render_to_string("shop/mail/newsletter.html", context), "text/html")
        yield message
