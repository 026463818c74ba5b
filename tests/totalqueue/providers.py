"""The two providers of a run, an SMTP server and an HTTP service, and how badly they behave."""

import hashlib
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Self

from tests.faults.http_server import Answer, HTTPFaultServer, Request
from tests.faults.smtp_server import Context, SMTPFaultServer
from tests.totalqueue.checker import Accept

Manners = Mapping[str, float]
"""How often which action is taken, in hundredths; the rest is accepted."""

STEADY: Manners = {"try later": 5, "drop": 2, "accept-then-drop": 2}
MANNERS: dict[str, Manners] = {
    "perfect": {},
    "steady": STEADY,
    "keeping answers": {"try later": 5, "drop": 2},
    "refusing": {"try later": 80},
    "losing answers": {"accept-then-drop": 30, "accept-then-rst": 10, "accept-then-hang": 10},
    "hanging": {"hang": 40, "accept-then-hang": 10},
    "stuck": {"hang": 100},
    "throttling": {"slow down": 30},
    "dropping": {"drop": 30, "rst": 20},
}
SMTP_REPLIES = {"try later": "451 4.3.0 try later", "slow down": "421 4.7.0 slow down"}
HTTP_REPLIES = {
    "try later": Answer(503, {"ErrorCode": 100, "Message": "maintenance"}),
    "slow down": Answer(429, {"ErrorCode": 0, "Message": "slow down"}, {"Retry-After": "1"}),
}
BUSY = "450 4.2.1 mailbox busy"


class Providers:
    """Both servers, with one set of manners; a context manager."""

    def __init__(self, seed: int, *, usual: str = "steady", latency: float = 0.0) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._usual = self._manners = usual
        self._latency = latency
        self._busy: set[str] = set()
        self.asked = 0
        """How many mails they have been given so far, whatever they did with them."""
        self._stack = ExitStack()
        self.smtp = SMTPFaultServer({"dot": self._at_dot, "rcpt": self._at_rcpt}, latency=latency)
        self.http = HTTPFaultServer(self._at_request, latency=latency)

    def __enter__(self) -> Self:
        self._stack.enter_context(self.smtp)
        self._stack.enter_context(self.http)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._stack.__exit__(*exc_info)

    def behave(self, manners: str | None = None, *, latency: float | None = None) -> None:
        """Take these manners and this time for a mail, or the usual ones again."""
        self._manners = self._usual if manners is None else manners
        self.smtp.latency = self.http.latency = self._latency if latency is None else latency

    def heal(self) -> None:
        """Accept everything from now on, at once."""
        self._usual, self._latency = "perfect", 0.0
        self.behave()

    def mailers(self) -> dict[str, Any]:
        """Return the mailers that talk to them."""
        return {
            "default": {
                "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
                "OPTIONS": {"host": self.smtp.host, "port": self.smtp.port, "timeout": 2},
            },
            "esp": {
                "BACKEND": "anymail.backends.postmark.EmailBackend",
                "OPTIONS": {"server_token": "t", "api_url": self.http.url, "timeout": 2},
            },
        }

    def accepts(self) -> Iterator[Accept]:
        """Yield every copy that was accepted, recipient by recipient."""
        for accepted in list(self.smtp.journal):
            digest = hashlib.sha256(accepted.data).hexdigest()
            for recipient in accepted.recipients:
                yield Accept(
                    key=accepted.header("X-Key") or "",
                    recipient=recipient,
                    provider="smtp",
                    message_id=accepted.message_id,
                    digest=digest,
                )
        for request in list(self.http.journal):
            yield from _posted(request)

    def _at_dot(self, _: Context) -> Any:
        action = self._choose()
        return SMTP_REPLIES.get(action, action) if action else None

    def _at_rcpt(self, context: Context) -> Any:
        """Refuse for good who is called so, and once who is busy."""
        address = context.argument
        if address.startswith("refused-"):
            return "550 5.1.1 no such mailbox"
        with self._lock:
            if not address.startswith("busy-") or address in self._busy:
                return None
            self._busy.add(address)
            return BUSY

    def _at_request(self, request: Request) -> Any:
        action = self._choose()
        if not action:
            return Answer(200, {"ErrorCode": 0, "Message": "OK", "MessageID": "1"})
        return HTTP_REPLIES.get(action, action)

    def _choose(self) -> str:
        with self._lock:
            self.asked += 1
            place = self._random.uniform(0, 100)
        for action, share in MANNERS[self._manners].items():
            place -= share
            if place < 0:
                return action
        return ""


def _posted(request: Request) -> Iterator[Accept]:
    sent = request.json()
    headers = {header["Name"].lower(): header["Value"] for header in sent.get("Headers", [])}
    digest = hashlib.sha256(request.body).hexdigest()
    for recipient in sent["To"].split(","):
        yield Accept(key=headers.get("x-key", ""), recipient=recipient.strip(), provider="http", digest=digest)
