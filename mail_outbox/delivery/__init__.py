"""One attempt: open the mailer, send, say what came of it; the only room that talks to a provider."""

from mail_outbox.delivery.line import Line
from mail_outbox.delivery.parcel import Parcel

__all__ = ["Line", "Parcel"]
