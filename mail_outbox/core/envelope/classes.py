"""Which classes of messages are kept, and which of their attributes are content."""

from collections.abc import Mapping

from anymail.message import AnymailMessage
from django.core.mail import EmailMessage, EmailMultiAlternatives

Classes = Mapping[str, type[EmailMessage]]

OURS: Classes = {
    "django.core.mail.EmailMessage": EmailMessage,
    "django.core.mail.EmailMultiAlternatives": EmailMultiAlternatives,
    "anymail.message.AnymailMessage": AnymailMessage,
}

DJANGO = frozenset({
    "subject", "body", "from_email", "to", "cc", "bcc", "reply_to", "extra_headers",
    "attachments", "alternatives", "content_subtype", "encoding",
})  # fmt: skip
ANYMAIL = frozenset({
    "esp_extra", "envelope_sender", "metadata", "send_at", "tags", "track_clicks", "track_opens",
    "template_id", "merge_data", "merge_global_data", "merge_metadata", "merge_headers",
})  # fmt: skip
RETIRED = frozenset(
    name for name in ("mixed_subtype", "alternative_subtype") if not hasattr(EmailMultiAlternatives, name)
)
"""What Django used to read, and now refuses to see on a message."""
CONTENT = (DJANGO | ANYMAIL | {"mixed_subtype", "alternative_subtype"}) - RETIRED
LIVE = frozenset({"connection", "_connection", "anymail_status", "anymail_test_params"})
"""What belongs to one process or one attempt, and is no content."""


def known_classes(extra: Classes | None) -> Classes:
    """Merge the classes a project vouches for with the ones everybody has; nobody can redefine the latter."""
    return {**OURS, **(extra or {}), **OURS}
