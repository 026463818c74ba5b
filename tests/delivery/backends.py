"""Mail backends as projects write them: descendants, wrappers, and some that misbehave."""

import smtplib
from typing import Any, ClassVar

from anymail.backends.resend import EmailBackend as ResendBackend
from anymail.backends.test import EmailBackend as AnymailTestBackend
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend as SMTPBackend

from mail_outbox.delivery.stamps import POLICY


class UTF8Backend(SMTPBackend):
    """Asks for SMTPUTF8."""

    def _send(self, email_message: Any) -> bool:
        self.connection.sendmail("a@x.example", ["b@x.example"], b"Subject: x\r\n\r\n", mail_options=["SMTPUTF8"])
        return True


class OwnConnectionBackend(SMTPBackend):
    """Opens the connection in a way of its own, as backends for OAuth do."""

    def open(self) -> bool:
        if self.connection:
            return False
        self.connection = smtplib.SMTP(self.host, self.port, local_hostname="own.example")
        self.connection.ehlo()
        return True


class OneByOneBackend(SMTPBackend):
    """Sends to each recipient apart."""

    def _send(self, email_message: Any) -> bool:
        for recipient in email_message.recipients():
            self.connection.sendmail(email_message.from_email, [recipient], b"Subject: x\r\n\r\n")
        return True


class QuietOneByOneBackend(OneByOneBackend):
    """Sends to each recipient apart, and keeps its errors to itself."""

    def _send(self, email_message: Any) -> bool:
        try:
            return super()._send(email_message)
        except OSError:
            return False


class LateLoginBackend(SMTPBackend):
    """Logs in when it sends."""

    def _send(self, email_message: Any) -> bool:
        self.connection.login("shop", "secret")
        return bool(super()._send(email_message))


class StrangeConnectionBackend(SMTPBackend):
    """Has a connection that is none of smtplib's."""

    closed: ClassVar[list[object]] = []

    def open(self) -> bool:
        self.connection = self
        return False

    def sendmail(self, *args: object) -> None:
        raise OSError("who knows")

    def close(self) -> None:
        self.closed.append(self)


class QuietBackend(SMTPBackend):
    """Keeps its errors to itself."""

    def _send(self, email_message: Any) -> bool:
        try:
            return bool(super()._send(email_message))
        except OSError:
            return False


class BrokenAfterwardsBackend(SMTPBackend):
    """Has a bug that shows when the message has been sent."""

    def _send(self, email_message: Any) -> bool:
        super()._send(email_message)
        raise KeyError("statistics")


class ForeignBackend(BaseEmailBackend):
    """Does what the test says: `result` is returned, or raised."""

    result: ClassVar[Any] = 1
    sent: ClassVar[list[Any]] = []

    def send_messages(self, email_messages: Any) -> Any:
        for message in email_messages:
            message.message()
        self.sent.extend(email_messages)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


class SilentBackend(ForeignBackend):
    """Returns nothing, against Django's contract."""

    result = None


class ClumsyBackend(ForeignBackend):
    """Cannot be closed."""

    def close(self) -> None:
        raise RuntimeError("cannot be closed")


class AmazonBackend(AnymailTestBackend):
    """Anymail's test backend under Amazon's name."""

    esp_name = "Amazon SES"


class KeyedResend(ResendBackend):
    """Sets the idempotency key itself."""

    def create_session(self) -> Any:
        """Let every request have it."""
        session = super().create_session()
        session.headers["Idempotency-Key"] = "mine"
        return session


class LoopBackend(ForeignBackend):
    """Stands for the outbox's own backend."""

    enqueues = True


class LookingBackend(SMTPBackend):
    """Looks into the message before it sends it, as one that signs does."""

    seen: ClassVar[list[Any]] = []

    def _send(self, email_message: Any) -> bool:
        self.look(email_message.message(**POLICY))
        return bool(super()._send(email_message))

    def look(self, built: Any) -> None:
        self.seen.extend(part.get_payload(decode=True) for part in built.walk() if part.get_filename())


class CopyingBackend(LookingBackend):
    """Likewise, in another method."""

    _send = SMTPBackend._send

    def send_messages(self, email_messages: Any) -> int:
        for message in email_messages:
            self.look(message.message(**POLICY))
        return super().send_messages(email_messages)
