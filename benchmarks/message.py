"""The message that everybody sends: 1.5 kB of text and 4 kB of HTML to one recipient, each a little different."""

from typing import Any

TEXT = "This is one line of the plain text of a message, long enough to be read.\n" * 20
HTML = (
    "<p>This is <b>one paragraph</b> of the HTML of a message, with a <a href='https://example.com/'>link</a>.</p>\n"
    * 36
)
SENDER = "The shop <shop@example.com>"


def parts(number: int) -> dict[str, str]:
    """Return subject, text, HTML and recipient; no two messages share a body, so that nothing can be stored once."""
    return {
        "subject": f"Your order {number} is on its way",
        "text": f"Dear reader {number},\n\n{TEXT}",
        "html": f"<html><body><h1>Dear reader {number}</h1>\n{HTML}</body></html>",
        "to": f"reader{number}@example.com",
    }


def a_message(number: int) -> Any:
    """Return it as Django's EmailMultiAlternatives."""
    from django.core.mail import EmailMultiAlternatives

    part = parts(number)
    message = EmailMultiAlternatives(part["subject"], part["text"], SENDER, [part["to"]])
    message.attach_alternative(part["html"], "text/html")
    return message
