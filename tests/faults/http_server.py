"""An HTTP server that fails where it is told to, and knows what it really accepted."""

import json
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults import SLOW, Action, FaultServer, Hangup, Peer, Script

ACCEPT_THEN = "accept-then-"


@dataclass(frozen=True)
class Answer:
    """What the server answers; a body that is not text is sent as JSON."""

    status: int = 200
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    accepts: bool | None = None
    """Whether the server takes the message with this answer; None: if the status says so."""

    @property
    def is_yes(self) -> bool:
        """Tell whether the message is taken."""
        return 200 <= self.status <= 299 if self.accepts is None else self.accepts


@dataclass(frozen=True)
class Request:
    """One request, as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    def json(self) -> Any:
        """Return the body, which is JSON."""
        return json.loads(self.body)


class HTTPFaultServer(FaultServer):
    """Speaks HTTP/1.1 on a free port of the loopback, with connections that are kept, and TLS where it is given.

    The script is an action, a row of actions (one per request, then the default answer), or a callable that is given
    the request and returns an action. Actions:

    - an Answer; None is the default answer
    - "drop-before-body", "drop" (the request has been read, and is refused), "rst", "hang", "garbage", "broken-tls" (what comes instead of an answer is no TLS)
    - "accept-then-drop", "accept-then-rst", "accept-then-hang", "accept-then-cut" (half of the default answer's body)
    - ("slow", seconds_per_byte) for the default answer, which accepts

    `journal` holds the requests that the server accepted, answered or not; `requests` all that it has read.
    """

    def __init__(
        self,
        script: Action | Sequence[Action] | None = None,
        *,
        default: Answer | None = None,
        latency: float = 0.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(latency=latency)
        self._tls = tls
        self.journal: list[Request] = []
        self.requests: list[Request] = []
        self.default = default or Answer(200, {"ok": True})
        self._script = Script(script)

    @property
    def url(self) -> str:
        """Return where the server is."""
        return f"http{'s' if self._tls else ''}://{self.host}:{self.port}/"

    def serve(self, peer: Peer, number: int) -> None:
        """Answer requests until the client closes."""
        if self._tls:
            peer.replace(self._tls.wrap_socket(peer.sock, server_side=True))
        while head := self._read_head(peer):
            method, path, headers = head
            request = Request(method, path, headers, b"", time.time())
            action = self._script.next(request)
            if action == "drop-before-body":
                raise Hangup
            length = int(headers.get("content-length", "0"))
            body = peer.reader.read(length)
            if len(body) < length:
                raise Hangup  # the client died on the way: half a request is none
            request = Request(method, path, headers, body, time.time())
            self.requests.append(request)
            self.pause(self.latency)
            self._answer(peer, action, request)

    def _read_head(self, peer: Peer) -> tuple[str, str, dict[str, str]] | None:
        line = peer.reader.readline().decode("latin-1").split()
        if len(line) != 3:
            return None
        headers: dict[str, str] = {}
        while (text := peer.reader.readline().decode("latin-1").strip()) != "":
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        return line[0], line[1], headers

    def _answer(self, peer: Peer, action: Action, request: Request) -> None:
        if isinstance(action, str) and action.startswith(ACCEPT_THEN):
            self.journal.append(request)
            action = action.removeprefix(ACCEPT_THEN)
        match action:
            case None:
                self._say(peer, self.default, request)
            case Answer():
                self._say(peer, action, request)
            case (str(slow), seconds) if slow == SLOW:
                self.journal.append(request)
                peer.write(_bytes(self.default), seconds_per_byte=seconds)
            case "drop":
                raise Hangup
            case "rst":
                peer.reset()
            case "hang":
                peer.hang()
            case "garbage":
                peer.write(b"\xff\xfe\x00 what is this?\r\n\r\n")
                raise Hangup
            case "broken-tls":
                os.write(peer.sock.fileno(), b"this is no TLS\r\n")
                peer.hang()
            case "cut":
                answer = _bytes(self.default)
                peer.write(answer[: -max(len(_content(self.default)) // 2, 1)])
                raise Hangup
            case _:
                raise AssertionError(f"There is no action {action!r}.")

    def _say(self, peer: Peer, answer: Answer, request: Request) -> None:
        if answer.is_yes:
            self.journal.append(request)
        peer.write(_bytes(answer))


def _content(answer: Answer) -> bytes:
    if isinstance(answer.body, bytes):
        return answer.body
    return (answer.body if isinstance(answer.body, str) else json.dumps(answer.body)).encode()


def _bytes(answer: Answer) -> bytes:
    content = _content(answer)
    kind = "text/html" if isinstance(answer.body, str | bytes) else "application/json"
    headers = {"Content-Type": kind, **answer.headers, "Content-Length": str(len(content))}
    lines = [f"HTTP/1.1 {answer.status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content
