"""An SMTP server that fails where it is told to, and knows what it really accepted."""

import email
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.faults import SLOW, Action, FaultServer, Hangup, Peer, Script

STEPS = (
    *("connect", "ehlo", "helo", "starttls", "tls", "auth"),
    *("mail", "rcpt", "data", "body", "dot", "rset", "noop", "quit"),
)
ACCEPT_THEN = "accept-then-"
OVERLONG = b"250 " + b"x" * 10_000 + b"\r\n"


@dataclass(frozen=True)
class Accepted:
    """One message that the server took responsibility for, whether or not the client ever heard of it."""

    sender: str
    recipients: tuple[str, ...]
    message_id: str
    data: bytes
    at: float

    def header(self, name: str) -> str | None:
        """Return a header of the message."""
        return _header(self.data, name)


@dataclass
class Context:
    """What a callable in a script is given: the step, its argument, and what has been said so far."""

    step: str
    argument: str
    connection: int
    sender: str
    recipients: tuple[str, ...]
    data: bytes = b""


@dataclass
class Session:
    """What the server knows of one conversation."""

    number: int
    sender: str = ""
    recipients: list[str] = field(default_factory=list)

    def forget(self) -> None:
        """Begin a new transaction."""
        self.sender, self.recipients = "", []


class SMTPFaultServer(FaultServer):
    """Speaks SMTP on a free port of the loopback.

    The script maps a step (see STEPS) to an action, to a row of actions (one per time the step is reached, in all
    connections together, then the default), or to a callable that is given the context and returns an action. At `rcpt`
    it may be a dict from address to any of these. Actions:

    - a reply, "451 4.3.0 try later" (lines separated by "\\n"; after a 421 the server hangs up); None is the default
    - "drop", "rst", "hang", "garbage", "overlong", ("slow", seconds_per_byte) for the default reply; at `body` the last one reads slowly
    - at `dot`: "accept-then-drop", "accept-then-hang", "accept-then-…": journal the message, then do the rest
    - at `tls`, the handshake: "drop", "rst", "hang", "garbage"

    `latency` is how long the server thinks about each message. `tls` offers STARTTLS, or speaks TLS at once.
    """

    is_pipelining = False
    """Whether PIPELINING is announced; set on the class, for all servers of a test."""

    def __init__(
        self,
        script: Mapping[str, Action] | None = None,
        *,
        latency: float = 0.0,
        tls: ssl.SSLContext | None = None,
        is_tls_from_the_start: bool = False,
    ) -> None:
        for step in script or {}:
            if step not in STEPS:
                raise ValueError(f"There is no step '{step}'. Known: {', '.join(STEPS)}.")
        super().__init__(latency=latency)
        self.journal: list[Accepted] = []
        self.commands: list[str] = []
        """Every command received, in the order of arrival, without the message contents."""
        self._tls, self._is_tls_from_the_start = tls, is_tls_from_the_start
        self._rcpt: dict[str, Script] = {}
        self._script: dict[str, Script] = {}
        for step, action in (script or {}).items():
            if step == "rcpt" and isinstance(action, Mapping):
                self._rcpt = {address.lower(): Script(each) for address, each in action.items()}
            else:
                self._script[step] = Script(action)

    def serve(self, peer: Peer, number: int) -> None:
        """Hold one conversation."""
        session = Session(number)
        if self._is_tls_from_the_start:
            self._shake_hands(peer, session)
        self._answer(peer, session, "connect", "", "220 fault.example ESMTP")
        while line := peer.reader.readline(65536):
            command = line.decode("utf-8", "replace").strip()
            self.commands.append(command)
            verb, _, argument = command.partition(" ")
            self._obey(peer, session, verb.lower(), argument)

    def _obey(self, peer: Peer, session: Session, verb: str, argument: str) -> None:
        match verb:
            case "ehlo":
                session.forget()
                self._answer(peer, session, "ehlo", argument, "\n".join(self._greeting(peer)))
            case "helo":
                session.forget()
                self._answer(peer, session, "helo" if "helo" in self._script else "ehlo", argument, "250 fault.example")
            case "starttls" if self._tls:
                if self._answer(peer, session, "starttls", argument, "220 go ahead"):
                    self._shake_hands(peer, session)
            case "auth":
                self._authenticate(peer, session, argument)
            case "mail" if session.sender:
                peer.write(b"503 5.5.1 nested MAIL command\r\n")
            case "mail":
                sender = _address(argument)
                if self._answer(peer, session, "mail", sender, "250 2.1.0 sender ok"):
                    session.sender = sender or "<>"
            case "rcpt" if not session.sender:
                peer.write(b"503 5.5.1 need MAIL command\r\n")
            case "rcpt":
                recipient = _address(argument)
                if self._answer(peer, session, "rcpt", recipient, "250 2.1.5 recipient ok"):
                    session.recipients.append(recipient)
            case "data" if not session.recipients:
                peer.write(b"554 5.5.1 no valid recipients\r\n")
            case "data":
                if self._answer(peer, session, "data", "", "354 end with a dot", good="3"):
                    self._receive(peer, session)
            case "rset" | "noop":
                session.forget()
                self._answer(peer, session, verb, "", "250 2.0.0 ok")
            case "quit":
                self._answer(peer, session, "quit", "", "221 2.0.0 bye")
                raise Hangup
            case _:
                peer.write(b"502 5.5.2 command not recognised\r\n")

    def _shake_hands(self, peer: Peer, session: Session) -> None:
        assert self._tls is not None
        action = self._next("tls", self._context("tls", "", session))
        if action is not None:
            peer.reader.read(1)  # the client has begun, so what comes is an answer to it
            self._misbehave(peer, action, b"")
            peer.hang()  # after garbage; a handshake with a client that has gone leaks a socket on Python 3.11
        peer.replace(self._tls.wrap_socket(peer.sock, server_side=True))

    def _greeting(self, peer: Peer) -> list[str]:
        lines = ["250-fault.example", "250-SIZE 50000000", "250-8BITMIME", "250-AUTH PLAIN LOGIN"]
        if self._tls and not isinstance(peer.sock, ssl.SSLSocket):
            lines.append("250-STARTTLS")
        if self.is_pipelining:
            lines.append("250-PIPELINING")
        return [*lines, "250 ENHANCEDSTATUSCODES"]

    def _authenticate(self, peer: Peer, session: Session, argument: str) -> None:
        if argument.upper().startswith("LOGIN") and " " not in argument:
            peer.write(b"334 VXNlcm5hbWU6\r\n")
            peer.reader.readline(65536)
        if argument.upper().startswith("LOGIN"):
            peer.write(b"334 UGFzc3dvcmQ6\r\n")
            peer.reader.readline(65536)
        self._answer(peer, session, "auth", argument, "235 2.7.0 welcome")

    def _receive(self, peer: Peer, session: Session) -> None:
        action = self._next("body", self._context("body", "", session))
        lines: list[bytes] = []
        if action is not None:
            peer.reader.readline()
            self._misbehave(peer, action, b"", reading=False)
            if isinstance(action, str):
                peer.write(_lines(action))
                raise Hangup
        is_line_start = True
        while (line := peer.reader.readline()) != b".\r\n" or not is_line_start:
            if not line:
                raise Hangup
            is_line_start = line.endswith(b"\r\n")
            lines.append(line[1:] if line.startswith(b".") else line)
        self._decide(peer, session, b"".join(lines))
        session.forget()

    def _decide(self, peer: Peer, session: Session, data: bytes) -> None:
        self.pause(self.latency)
        context = self._context("dot", "", session)
        context.data = data
        action = self._next("dot", context)
        default = f"250 2.0.0 Ok: queued as {len(self.journal) + 1}"
        if action is None or _is_slow(action) or (isinstance(action, str) and action[:1] == "2"):
            self._journal(session, data)
        elif isinstance(action, str) and action.startswith(ACCEPT_THEN):
            self._journal(session, data)
            action = action.removeprefix(ACCEPT_THEN)
        self._say(peer, action, default)

    def _journal(self, session: Session, data: bytes) -> None:
        message_id = _header(data, "Message-ID") or ""
        self.journal.append(Accepted(session.sender, tuple(session.recipients), message_id, data, time.time()))

    def _answer(self, peer: Peer, session: Session, step: str, argument: str, default: str, *, good: str = "2") -> bool:
        """Do what the script says at this step, by default reply; tell whether the answer was a yes."""
        action = self._next(step, self._context(step, argument, session))
        return self._say(peer, action, default)[:1] == good

    def _say(self, peer: Peer, action: Action, default: str) -> str:
        if action is None:
            peer.write(_lines(default))
            return default
        if self._misbehave(peer, action, _lines(default)):
            return default if _is_slow(action) else ""
        peer.write(_lines(action))
        if action.startswith("421"):
            raise Hangup
        return str(action)

    def _misbehave(self, peer: Peer, action: Action, default: bytes, *, reading: bool = True) -> bool:
        """Do what is not a reply; tell whether it was that."""
        match action:
            case "drop":
                raise Hangup
            case "rst":
                peer.reset()
            case "hang":
                peer.hang(reading=reading)
            case "garbage":
                peer.write(b"\xff\xfe\x00 what is this?\r\n")
            case "overlong":
                peer.write(OVERLONG)
            case (str(slow), seconds) if slow == SLOW and default:
                peer.write(default, seconds_per_byte=seconds)
            case (str(slow), seconds) if slow == SLOW:
                while peer.reader.read(1):
                    self.pause(seconds)
            case _:
                return False
        return True

    def _context(self, step: str, argument: str, session: Session) -> Context:
        return Context(step, argument, session.number, session.sender, tuple(session.recipients))

    def _next(self, step: str, context: Context) -> Action:
        script = self._rcpt.get(context.argument.lower()) if step == "rcpt" else None
        script = script or self._script.get(step)
        return script.next(context) if script else None


def _header(data: bytes, name: str) -> str | None:
    value = email.message_from_bytes(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")[name]
    return None if value is None else str(value)


def _address(argument: str) -> str:
    return argument.partition("<")[2].partition(">")[0]


def _is_slow(action: Action) -> bool:
    return isinstance(action, tuple) and action[:1] == (SLOW,)


def _lines(reply: str) -> bytes:
    return b"".join(line.encode() + b"\r\n" for line in reply.split("\n"))
