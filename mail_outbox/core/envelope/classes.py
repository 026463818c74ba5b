"""Which classes of messages are kept, and which of their attributes are content."""

from collections.abc import Mapping

from django.core.mail import EmailMessage, EmailMultiAlternatives

from mail_outbox.core.loaded import loaded

Classes = Mapping[str, type[EmailMessage]]

DJANGOS: Classes = {
    "django.core.mail.EmailMessage": EmailMessage,
    "django.core.mail.EmailMultiAlternatives": EmailMultiAlternatives,
}
ANYMAILS = "anymail.message.AnymailMessage"
OURS = (*DJANGOS, ANYMAILS)
"""The names of the classes that everybody has; nobody can redefine them."""

DJANGO = frozenset({
    "subject", "body", "from_email", "to", "cc", "bcc", "reply_to", "extra_headers",
    "attachments", "alternatives", "content_subtype", "encoding",
})  # fmt: skip
ANYMAIL = frozenset({
    "esp_extra", "envelope_sender", "metadata", "send_at", "tags", "track_clicks", "track_opens",
    "template_id", "merge_data", "merge_global_data", "merge_metadata", "merge_headers", "anymail_test_response",
})  # fmt: skip
RETIRED = frozenset(
    name for name in ("mixed_subtype", "alternative_subtype") if not hasattr(EmailMultiAlternatives, name)
)
"""What Django used to read, and now refuses to see on a message."""
CONTENT = (DJANGO | ANYMAIL | {"mixed_subtype", "alternative_subtype"}) - RETIRED
LIVE = frozenset({"connection", "_connection", "anymail_status", "anymail_test_params", "sent_using"})
"""What belongs to one process or one attempt, and is no content."""


def class_of(name: str, extra: Classes) -> type[EmailMessage] | None:
    """Return the class of that name: one that everybody has, or one of those a project vouches for."""
    if name == ANYMAILS:
        # Not before there is one to be made: Anymail brings requests along, which who sends over SMTP never needs.
        from anymail.message import AnymailMessage

        known: type[EmailMessage] = AnymailMessage
        return known
    return DJANGOS.get(name) or extra.get(name)


def name_of(kind: type[EmailMessage], extra: Classes) -> str | None:
    """Return the name under which messages of the class are kept; None where they are not."""
    for name, known in DJANGOS.items():
        if kind is known:
            return name
    if kind is loaded("anymail.message", "AnymailMessage"):
        return ANYMAILS
    return next((name for name, known in extra.items() if kind is known and name not in OURS), None)
