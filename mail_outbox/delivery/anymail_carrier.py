"""How the mailers of Anymail are opened, given a message, judged and let go."""

from anymail.backends.base import AnymailBaseBackend
from django.core.mail import EmailMessage

from mail_outbox.core.outcomes import Outcome
from mail_outbox.delivery import anymail, http
from mail_outbox.delivery.carriers import Carrier
from mail_outbox.delivery.esps import amazon_ses
from mail_outbox.delivery.trace import Phase


class AnymailCarrier(Carrier[AnymailBaseBackend]):
    """Any backend of Anymail's."""

    starts_in = Phase.BUILD
    looks_inside = True

    @property
    def proof(self) -> str:
        """Say that nobody was asked: Anymail only makes a session ready."""
        return "its configuration can be read, and nothing more is proved: the provider judges the key with the first message"

    def open(self) -> None:
        """Open the session, and have it keep the trace."""
        amazon_ses.limit_waits(self.backend, left=self.trace.left())
        self.backend.open()
        anymail.instrument(self.backend, self.trace)
        self.timeout = getattr(self.backend, "timeout", None)

    def send(self, message: EmailMessage) -> tuple[Outcome, Exception | None]:
        """Post the message, never waiting longer than the attempt may take."""
        if hasattr(self.backend, "timeout"):
            self.backend.timeout = http.timeouts(self.timeout, self.trace)
        return super().send(message)

    def may_have_gone(self, message: EmailMessage) -> bool:
        """Say yes to a request that was answered with a yes, or not at all."""
        return self.trace.phase is Phase.POST or anymail.is_taken(message, self.trace)

    def failed(self, message: EmailMessage, error: Exception) -> Outcome:
        """Judge by the answer and the statuses, if there are any."""
        return anymail.judge(message, self.trace, esp=self.backend.esp_name, error=error)

    def returned(self, message: EmailMessage, result: object) -> Outcome:
        """Judge by the answer and the statuses: the number returned says nothing."""
        return anymail.judge(message, self.trace, esp=self.backend.esp_name, result=result)

    def may_stay_open(self, error: Exception | None) -> bool:
        """Keep the session if the provider answered, or was not asked."""
        return self.trace.phase in (Phase.BUILD, Phase.ANSWERED)
