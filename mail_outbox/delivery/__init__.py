"""One attempt: open the mailer, send, say what came of it; the only room that talks to a provider."""

from mail_outbox.delivery.interceptors import intercept
from mail_outbox.delivery.line import Line
from mail_outbox.delivery.parcel import NotNow, Parcel

__all__ = ["Line", "NotNow", "Parcel", "intercept"]
