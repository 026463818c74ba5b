"""How each kind of mailer is opened, given a message, judged and let go."""

import contextlib
import logging
import smtplib
from typing import Generic, TypeVar

from django.core.mail import EmailMessage
from django.core.mail.backends import smtp as django_smtp
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend as SMTPBackend

from mail_outbox.core.outcomes import Outcome
from mail_outbox.delivery import classifiers, classify, mime, smtp
from mail_outbox.delivery.esps import is_anymails
from mail_outbox.delivery.trace import DeadlinePassed, Phase, Trace

logger = logging.getLogger("mail_outbox.delivery")
_warned_about: set[type] = set()

Backend = TypeVar("Backend", bound=BaseEmailBackend)


class Carrier(Generic[Backend]):
    """A mailer that we cannot look into: what it raises and returns is all there is to know."""

    builds_mime = False
    """Whether it is certain to ask for the message as MIME, which can then be built before it is opened."""
    starts_in = Phase.HANDED
    looks_inside = False
    """Whether it is known how far a message got, so that the number returned tells nothing more."""

    def __init__(self, backend: Backend, trace: Trace) -> None:
        self.backend, self.trace = backend, trace
        self.kind = type(backend)

    @property
    def asks_for_bytes_only(self) -> bool:
        """Tell whether it is certain to ask nothing of the MIME message but its bytes."""
        return False

    @property
    def proof(self) -> str:
        """Say what it proves that the mailer opens, and what only a message can show."""
        return "its backend opens, and only a message shows what that is worth"

    def open(self) -> None:
        """Open the connection, ready to be watched; raises what the mailer raises."""
        self.backend.open()

    def is_alive(self) -> bool:
        """Tell whether the connection that was kept can still be used."""
        return True

    def send(self, message: EmailMessage) -> tuple[Outcome, Exception | None]:
        """Hand the message over, alone; return what came of it, and what was raised."""
        try:
            self.trace.hand_over(self.starts_in)
        except DeadlinePassed:
            return classify.TOO_LATE, None
        try:
            result = self.backend.send_messages([message])
        except Exception as error:  # noqa: BLE001 - judged by how far it got, then by its type
            return self.said(message, error=error) or self.failed(message, error), error
        return self.said(message, result=result) or self.returned(message, result), None

    def said(self, message: EmailMessage, *, error: Exception | None = None, result: object = None) -> Outcome | None:
        """Return what the project's classifiers say, where they know more than we do."""
        if (error is None and self.looks_inside) or self.may_have_gone(message):
            return None
        return classifiers.ask(error, mailer=self.trace.mailer, backend=self.backend, result=result)

    def may_have_gone(self, message: EmailMessage) -> bool:
        """Tell whether the message has provably left and nobody has said no: a classifier knows no better."""
        return False

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

    @property
    def asks_for_bytes_only(self) -> bool:
        """Tell whether it sends as Django's own does: a descendant may sign the message, or look into it."""
        methods = [getattr(self.backend, name, None) for name in ("send_messages", "_send")]
        return all(mime.is_djangos_own(method, django_smtp) for method in methods)

    @property
    def proof(self) -> str:
        """Say that the server answers, and whether it knows us: Django's backend logs in where it has a name and a password."""
        if self.backend.username and self.backend.password:
            return "the server has accepted the login; whether it takes the sender, only a message shows"
        return "the server answers, without a login; whether it takes our mail, only a message shows"

    def open(self) -> None:
        """Connect, with a connection that keeps the trace."""
        smtp.instrument(self.backend, self.trace)
        self.backend.open()
        self.looks_inside = smtp.adopt(self.backend, self.trace)
        self.starts_in = Phase.IDLE if self.looks_inside else Phase.HANDED

    def is_alive(self) -> bool:
        """Look whether the server has closed the connection or announced that it will."""
        return self.starts_in is Phase.HANDED or smtp.is_alive(self.backend)

    def may_have_gone(self, message: EmailMessage) -> bool:
        """Say yes from the final dot on, unless the server's answer to it is a no."""
        is_no = self.trace.reply is not None and 400 <= self.trace.reply[0] <= 599
        return self.trace.accepted > 0 or (self.trace.phase in (Phase.DOT, Phase.REPLIED) and not is_no)

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


def carrier_of(backend: BaseEmailBackend, trace: Trace) -> Carrier:
    """Return what knows how to handle the mailer."""
    if is_anymails(backend):
        # Not before: it loads requests, 5 MB that a worker which sends over SMTP never needs.
        from mail_outbox.delivery.anymail_carrier import AnymailCarrier

        return AnymailCarrier(backend, trace)
    return SMTPCarrier(backend, trace) if isinstance(backend, SMTPBackend) else Carrier(backend, trace)
