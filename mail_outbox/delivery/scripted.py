"""A provider that obeys a script: what the mail of a project's own tests is delivered to."""

import copy
from collections import deque
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, ClassVar

import requests
from anymail.backends.base import AnymailBaseBackend
from anymail.backends.test import TestPayload
from anymail.exceptions import AnymailRequestsAPIError
from anymail.message import AnymailRecipientStatus
from django.core import mail
from django.core.mail import EmailMessage

from mail_outbox.core.addresses import normalise

Failure = Callable[[], Exception]


class Provider:
    """Accepts what it is given into `django.core.mail.outbox`, unless it is told otherwise.

    `attempts` counts the messages it was given, `accepted` lists those it has taken.
    """

    def __init__(self) -> None:
        self.attempts = 0
        self.accepted: list[EmailMessage] = []
        self._script: deque[Failure] = deque()
        self._always: Failure | None = None
        self._rejected: set[str] = set()

    def fails(self, status: int, *, times: int | None = 1, retry_after: int | None = None) -> "Provider":
        """Answer the next `times` messages (None: all) with this HTTP status, and return the provider.

        `retry_after` is how many seconds it asks to be left alone. What the status means is what it means at every
        provider: 503 is tried again, 400 is not, 429 and 401 pause the mailer.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return self._will(lambda: AnymailRequestsAPIError(response=_answer(status, headers)), times)

    def times_out(self, *, times: int | None = 1) -> "Provider":
        """Do not answer the next `times` messages (None: all), so that nobody knows whether they went; return the provider."""
        return self._will(_no_answer, times)

    def rejects(self, *addresses: str) -> "Provider":
        """Refuse these recipients for good, in every message from here on, and return the provider."""
        self._rejected.update(map(normalise, addresses))
        return self

    def take(self, message: EmailMessage, addresses: list[str]) -> dict[str, AnymailRecipientStatus]:
        """Do with the message what the script says, and return what becomes of each recipient."""
        self.attempts += 1
        failure = self._script.popleft() if self._script else self._always
        if failure is not None:
            raise failure()
        rejected = {address for address in addresses if normalise(address) in self._rejected}
        if rejected != set(addresses):
            taken = copy.deepcopy(message)
            self.accepted.append(taken)
            if hasattr(mail, "outbox"):
                mail.outbox.append(taken)
        return {
            address: AnymailRecipientStatus(
                message_id=f"scripted-{self.attempts}", status="rejected" if address in rejected else "sent"
            )
            for address in addresses
        }

    def _will(self, failure: Failure, times: int | None) -> "Provider":
        if times is None:
            self._always = failure
        else:
            self._script.extend([failure] * times)
        return self


class ScriptedBackend(AnymailBaseBackend):  # type: ignore[misc]
    """A mailer that gives every message to the one provider there is."""

    esp_name = "Scripted"
    provider: ClassVar[Provider] = Provider()

    def build_message_payload(self, message: EmailMessage, defaults: Any) -> TestPayload:
        """Let Anymail look at the message as it does for any provider."""
        return _Payload(message, defaults, self)

    def post_to_esp(self, payload: TestPayload, message: EmailMessage) -> requests.Response:
        """Let the provider decide."""
        payload.get_params()
        payload.statuses = self.provider.take(message, payload.recipient_emails)
        return _answer(200)

    def parse_recipient_status(self, response: Any, payload: Any, message: EmailMessage) -> Any:
        """Return what the provider said of each recipient."""
        return payload.statuses


class _Payload(TestPayload):  # type: ignore[misc]
    def add_alternative(self, content: Any, mimetype: str) -> None:
        """Take any."""


def _answer(status: int, headers: Mapping[str, str] | None = None) -> requests.Response:
    response = requests.Response()
    response.status_code, response.raw = status, BytesIO(b'{"message": "as scripted"}')
    response.headers.update({"Content-Type": "application/json", **(headers or {})})
    return response


def _no_answer() -> Exception:
    error: Exception = AnymailRequestsAPIError("no answer")
    error.__cause__ = TimeoutError("the scripted provider does not answer")
    return error
