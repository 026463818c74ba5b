"""How each kind of mailer is opened, given a message, judged and let go."""

import contextlib
import logging
import smtplib
from typing import Generic, TypeVar

from anymail.backends.base import AnymailBaseBackend
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend as SMTPBackend

from mail_outbox.core.outcomes import Outcome
from mail_outbox.delivery import anymail, classify, http, smtp
from mail_outbox.delivery.trace import Phase, Trace

logger = logging.getLogger("mail_outbox.delivery")
_warned_about: set[type] = set()

Backend = TypeVar("Backend", bound=BaseEmailBackend)


class Carrier(Generic[Backend]):
    """A mailer that we cannot look into: what it raises and returns is all there is to know."""

    builds_mime = False
    """Whether it is certain to ask for the message as MIME, which can then be built before it is opened."""
    starts_in = Phase.HANDED

    def __init__(self, backend: Backend, trace: Trace) -> None:
        self.backend, self.trace = backend, trace
        self.kind = type(backend)

    def open(self) -> None:
        """Open the connection, ready to be watched; raises what the mailer raises."""
        self.backend.open()

    def is_alive(self) -> bool:
        """Tell whether the connection that was kept can still be used."""
        return True

    def send(self, message: EmailMessage) -> tuple[Outcome, Exception | None]:
        """Hand the message over, alone; return what came of it, and what was raised."""
        result = None
        self.trace.phase = self.starts_in
        try:
            result = self.backend.send_messages([message])
        except Exception as error:  # noqa: BLE001 - judged by how far it got, then by its type
            return self.failed(message, error), error
        return self.returned(message, result), None

    def failed(self, message: EmailMessage, error: Exception) -> Outcome:
        """Judge what was raised."""
        return classify.foreign_failed(error, self.trace)

    def returned(self, message: EmailMessage, result: object) -> Outcome:
        """Judge what was returned."""
        if result is None and self.kind not in _warned_about:
            _warned_about.add(self.kind)
            logger.warning(
                "a mail backend returned None instead of how many messages it sent; they are taken for sent",
                extra={"backend": f"{self.kind.__module__}.{self.kind.__qualname__}"},
            )
        return classify.returned(result)

    def may_stay_open(self, error: Exception | None) -> bool:
        """Tell whether the connection can be used again after what was raised."""
        return error is None

    def was_stale(self, error: Exception | None) -> bool:
        """Tell whether all that happened is that the server had closed the connection meanwhile."""
        return False

    def close(self) -> None:
        """Say goodbye and close."""
        self.backend.close()

    def drop(self) -> None:
        """Close without a word; raises nothing."""
        with contextlib.suppress(Exception):
            self.backend.close()


class SMTPCarrier(Carrier[SMTPBackend]):
    """Django's SMTP backend or a descendant of it."""

    builds_mime = True

    def open(self) -> None:
        """Connect, with a connection that keeps the trace."""
        smtp.instrument(self.backend, self.trace)
        self.backend.open()
        is_tracked = smtp.adopt(self.backend, self.trace)
        self.starts_in = Phase.IDLE if is_tracked else Phase.HANDED

    def is_alive(self) -> bool:
        """Look whether the server has closed the connection or announced that it will."""
        return self.starts_in is Phase.HANDED or smtp.is_alive(self.backend)

    def failed(self, message: EmailMessage, error: Exception) -> Outcome:
        """Judge by the phase."""
        if self.trace.phase is Phase.HANDED:
            return super().failed(message, error)
        return classify.smtp_failed(error, self.trace)

    def returned(self, message: EmailMessage, result: object) -> Outcome:
        """Judge by the phase: a descendant may have kept an error to itself."""
        if self.trace.phase in (Phase.HANDED, Phase.IDLE):
            return super().returned(message, result)
        return classify.smtp_returned(self.trace)

    def may_stay_open(self, error: Exception | None) -> bool:
        """Keep it after an explicit answer that leaves the conversation where the next one can begin."""
        if error is None:
            return self.trace.phase in (Phase.HANDED, Phase.IDLE, Phase.ACCEPTED)
        is_answer = isinstance(error, (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused))
        # After a refused DATA smtplib does not reset; a reply that is no answer leaves nobody knows what behind.
        is_reset = self.trace.phase in (Phase.ENVELOPE, Phase.REPLIED)
        return is_answer and is_reset and classify.is_refusal(error) and smtp.is_alive(self.backend)

    def was_stale(self, error: Exception | None) -> bool:
        """Say yes if the server was gone before it answered anything: provably nothing was sent."""
        is_gone = isinstance(error, smtplib.SMTPServerDisconnected)
        return is_gone and self.trace.phase is Phase.ENVELOPE and self.trace.replies == 0 and self.trace.left() > 0

    def close(self) -> None:
        """Say QUIT, and wait for the answer only shortly."""
        smtp.say_goodbye(self.backend, self.trace)

    def drop(self) -> None:
        """Close the socket; what is no connection of smtplib's is closed as the backend does."""
        smtp.hang_up(self.backend)
        super().drop()


class AnymailCarrier(Carrier[AnymailBaseBackend]):
    """Any backend of Anymail's."""

    starts_in = Phase.BUILD

    def open(self) -> None:
        """Open the session, and have it keep the trace."""
        self.backend.open()
        anymail.instrument(self.backend, self.trace)
        self.timeout = getattr(self.backend, "timeout", None)

    def send(self, message: EmailMessage) -> tuple[Outcome, Exception | None]:
        """Post the message, never waiting longer than the attempt may take."""
        if hasattr(self.backend, "timeout"):
            self.backend.timeout = http.timeouts(self.timeout, self.trace)
        return super().send(message)

    def failed(self, message: EmailMessage, error: Exception) -> Outcome:
        """Judge by the answer and the statuses, if there are any."""
        return anymail.judge(message, self.trace, esp=self.backend.esp_name, error=error)

    def returned(self, message: EmailMessage, result: object) -> Outcome:
        """Judge by the answer and the statuses: the number returned says nothing."""
        return anymail.judge(message, self.trace, esp=self.backend.esp_name, result=result)

    def may_stay_open(self, error: Exception | None) -> bool:
        """Keep the session if the provider answered, or was not asked."""
        return self.trace.phase in (Phase.BUILD, Phase.ANSWERED)


def carrier_of(backend: BaseEmailBackend, trace: Trace) -> Carrier:
    """Return what knows how to handle the mailer."""
    match backend:
        case AnymailBaseBackend():
            return AnymailCarrier(backend, trace)
        case SMTPBackend():
            return SMTPCarrier(backend, trace)
    return Carrier(backend, trace)
