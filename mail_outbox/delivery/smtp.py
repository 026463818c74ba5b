"""An SMTP conversation that knows how far it got, whom the server refused, and when to stop waiting."""

import contextlib
import functools
import io
import re
import selectors
import smtplib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.core.mail.backends import smtp as django_smtp
from django.core.mail.backends.smtp import EmailBackend

from mail_outbox.delivery import pipelining
from mail_outbox.delivery.mime import is_djangos_own
from mail_outbox.delivery.pipelining import PLAIN
from mail_outbox.delivery.trace import Phase, Trace

CONNECT = 10.0
COMMAND = 30.0
# RFC 5321 4.5.3.2.6: a spurious timeout after the final dot makes duplicates. The attempt's deadline cuts it short.
AFTER_THE_DOT = 120.0
QUIT = 1.0
# Small enough that one write to a server that hardly reads cannot outlive the deadline by much, over TLS neither.
CHUNK = 16 * 1024
# Without a descriptor of its own, which would have to be opened for every message.
Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Reader(io.RawIOBase):
    """Reads from the connection's socket, each time no longer than the attempt may take."""

    def __init__(self, connection: "Tracked") -> None:
        self._connection = connection

    def readable(self) -> bool:
        """Say yes, as BufferedReader asks."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what has come."""
        sock = self._connection.sock
        if sock is None:
            return 0
        try:
            sock.settimeout(self._connection.patience())
            return sock.recv_into(buffer)
        except TimeoutError:
            count = self._connection.trace.last_look(sock, buffer)
            if count is None:
                raise
            return count


class Tracked(smtplib.SMTP):
    """A connection that writes down in the line's trace what happens; mixed into whatever class the mailer uses."""

    trace: Trace
    limit: float
    is_smtplibs_own = False
    """Whether smtplib's own methods hold the conversation, so that it may be held in fewer pieces."""

    def __init__(self, *args: Any, trace: Trace, timeout: Any = None, **kwargs: Any) -> None:
        given = timeout if isinstance(timeout, (int, float)) and timeout > 0 else None
        self.trace, self.limit = trace, given or COMMAND
        kwargs["timeout"] = trace.patience(given or CONNECT)
        super().__init__(*args, **kwargs)

    def start_tracking(self, trace: Trace) -> None:
        """Begin with a connection that was opened as something else."""
        given: Any = self.timeout
        self.trace, self.limit = trace, given if isinstance(given, (int, float)) and given > 0 else COMMAND
        if self.file is not None:
            self.file.close()
            self.file = None

    def patience(self) -> float:
        """Return how many seconds the next wait may take."""
        longest = max(self.limit, AFTER_THE_DOT) if self.trace.phase is Phase.DOT else self.limit
        return self.trace.patience(longest)

    def send(self, s: Any) -> None:
        """Send, never blocking longer than the attempt may take."""
        content = s.encode(self.command_encoding) if isinstance(s, str) else s
        for start in range(0, len(content), CHUNK):
            patience = self.patience()
            if self.sock is not None:
                self.sock.settimeout(patience)
            super().send(content[start : start + CHUNK])

    def getreply(self) -> tuple[int, bytes]:
        """Wait for the server's answer, never longer than the attempt may take."""
        if self.file is None and self.sock is not None:
            with contextlib.suppress(OSError):
                # Body and dot go out in two writes; Nagle would hold back the second for about 40 ms.
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.file = io.BufferedReader(Reader(self))
        reply = super().getreply()
        self.trace.replies += 1
        if reply[0] >= 400:
            self.trace.objections.append(reply)
        return reply

    def rcpt(self, recip: str, options: Sequence[str] = ()) -> tuple[int, bytes]:
        """Name a recipient, and remember the refusal that Django throws away."""
        code, text = super().rcpt(recip, options)
        if code not in (250, 251):
            self.trace.refused[recip] = (code, text)
        return code, text

    def sendmail(
        self, from_addr: Any, to_addrs: Any, msg: Any, *args: Any, **kwargs: Any
    ) -> dict[str, tuple[int, bytes]]:
        """Send one message to its recipients."""
        self.trace.phase, self.trace.refused, self.trace.reply = Phase.ENVELOPE, {}, None
        is_plain = self.is_smtplibs_own and isinstance(msg, bytes) and not args and not kwargs
        is_wanted = is_plain and self.trace.pipelining
        commands = pipelining.commands(self, from_addr, to_addrs, len(msg)) if is_wanted else None
        if commands is None:
            refused = super().sendmail(from_addr, to_addrs, msg, *args, **kwargs)
        else:
            refused = self._send_together(commands, from_addr, to_addrs, msg)
        self.trace.phase = Phase.ACCEPTED
        self.trace.accepted += 1
        return refused

    def _send_together(
        self, commands: bytes, from_addr: str, to_addrs: Sequence[str], msg: bytes
    ) -> dict[str, tuple[int, bytes]]:
        """Send one message with all that comes before its content in one piece; raises what smtplib raises."""
        self.send(commands)
        refused = pipelining.agree(self, from_addr, to_addrs, skim=super().getreply, refused=self.trace.refused)
        self.trace.phase = Phase.DATA
        code, text = self._send_content(msg)
        if code == 421:
            self.close()
        elif code != 250:
            self._rset()
        if code != 250:
            raise smtplib.SMTPDataError(code, text)
        return refused

    def data(self, msg: Any) -> tuple[int, bytes]:
        """Send the content, the final dot apart from it, so that a lost connection can be placed."""
        self.trace.phase = Phase.DATA
        self.putcmd("data")
        return self._send_content(msg)

    def _send_content(self, msg: Any) -> tuple[int, bytes]:
        """Read the answer to DATA, send the content, and return the answer to that."""
        code, text = self.getreply()
        if code != 354:
            raise smtplib.SMTPDataError(code, text)
        self.trace.phase = Phase.BODY
        for piece in dot_stuffed(msg):
            self.send(piece)
        self.trace.hand_over(Phase.DOT)
        self.send(b".\r\n")
        self.trace.reply = self.getreply()
        self.trace.phase = Phase.REPLIED
        return self.trace.reply

    def _rset(self) -> None:
        # What the server says to this must not hide what it said before, which is why we reset.
        with contextlib.suppress(smtplib.SMTPException, OSError):
            self.rset()


def dot_stuffed(content: bytes | str) -> Iterator[bytes]:
    """Yield the content as it goes over the wire, without the final dot: in pieces, because it may be large."""
    if isinstance(content, str):
        content = re.sub(r"\r\n|\n|\r(?!\n)", "\r\n", content).encode("ascii")
    is_line_start = True
    for start in range(0, len(content), CHUNK):
        piece = content[start : start + CHUNK]
        stuffed = piece.replace(b"\n.", b"\n..")
        yield b"." + stuffed if is_line_start and piece.startswith(b".") else stuffed
        is_line_start = piece.endswith(b"\n")
    if not content.endswith(b"\r\n"):
        yield b"\r\n"


def tracked(kind: type[smtplib.SMTP]) -> type[Tracked]:
    """Return the tracked form of a connection class."""
    if issubclass(kind, Tracked):
        return kind
    return type(kind.__name__, (Tracked, kind), {"is_smtplibs_own": pipelining.is_smtplibs_own(kind)})


def instrument(backend: EmailBackend, trace: Trace) -> None:
    """Make every connection that the backend opens a tracked one, from its first byte."""
    kind, given = type(backend), backend.connection_class
    if isinstance(given, type) and issubclass(given, smtplib.SMTP):
        connect = functools.partial(tracked(given), trace=trace)
        # Django reads the class from a property, which only a subclass can replace.
        backend.__class__ = type(kind.__name__, (kind,), {"connection_class": property(lambda _: connect)})
    prepare: Any = getattr(backend, "prep_address", None)  # since Django 6.0
    if is_djangos_own(prepare, django_smtp):
        backend.prep_address = _prepared(prepare)  # type: ignore[method-assign]


def _prepared(prepare: Callable[..., str]) -> Callable[..., str]:
    """Return what Django makes of an address, for plain ones without taking them to pieces: that costs more than the rest."""
    remembered = functools.lru_cache(maxsize=64)(prepare)

    def prepared(address: Any, *args: Any, **kwargs: Any) -> str:
        if type(address) is not str:
            return prepare(address, *args, **kwargs)
        return address if PLAIN.fullmatch(address) else remembered(address, *args, **kwargs)

    return prepared


def adopt(backend: EmailBackend, trace: Trace) -> bool:
    """Track a connection that the backend opened in a way of its own; tell whether it is tracked now."""
    opened: object = backend.connection
    if isinstance(opened, smtplib.SMTP) and not isinstance(opened, Tracked):
        connection: Any = opened
        with contextlib.suppress(TypeError):  # a class that cannot be exchanged stays as it is
            connection.__class__ = tracked(type(opened))
            connection.start_tracking(trace)
    return isinstance(backend.connection, Tracked)


def is_alive(backend: EmailBackend) -> bool:
    """Tell whether the open connection can take another message: still there, and the server has not spoken up."""
    sock = getattr(backend.connection, "sock", None)
    if sock is None:
        return False
    with Selector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        # Between two messages a server only says goodbye: end of file, or "421 idle for too long".
        return not selector.select(timeout=0)


def say_goodbye(backend: EmailBackend, trace: Trace) -> None:
    """Say QUIT and close the socket, whatever the server makes of it."""
    connection = backend.connection
    trace.begin(time.monotonic() + QUIT)
    try:
        backend.close()
    finally:
        if isinstance(connection, smtplib.SMTP):
            connection.close()


def hang_up(backend: EmailBackend) -> None:
    """Close the socket without a word: QUIT would be read as content, and its answer waited for."""
    for name in ("connection", "_partial_connection"):
        connection = getattr(backend, name, None)
        if isinstance(connection, smtplib.SMTP):
            connection.close()
            setattr(backend, name, None)
