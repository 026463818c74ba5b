"""How far the current attempt got, and how long it may still take."""

import math
import ssl
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mail_outbox.delivery.esps.provider import Key


class Phase(StrEnum):
    """Where an attempt stands; what an exception means depends on it first of all."""

    BUILD = "build"
    """The message is being stamped and built: nothing can have been sent."""
    OPEN = "open"
    """The connection is being opened: nothing can have been sent."""
    HANDED = "handed over"
    """A mailer that we cannot look into has the message."""
    IDLE = "idle"
    """SMTP: connected, the conversation about this message has not begun."""
    ENVELOPE = "envelope"
    DATA = "data"
    BODY = "body"
    DOT = "dot"
    """SMTP: the final dot may have left, the answer is not here."""
    REPLIED = "replied"
    """SMTP: the server has answered the final dot."""
    ACCEPTED = "accepted"
    POST = "post"
    """HTTP: the request may have left, the answer is not here."""
    ANSWERED = "answered"
    """HTTP: the provider has answered."""


class DeadlinePassed(TimeoutError):
    """The attempt may not take any longer."""


@dataclass(slots=True)
class Trace:
    """What is known of the attempt under way; a line has one, begun anew for each delivery."""

    mailer: str = ""
    """The alias of the line's mailer."""
    pipelining: bool = True
    """SMTP: whether commands may go in one piece, where the server announces that it takes them so."""
    deadline: float = math.inf
    phase: Phase = Phase.BUILD
    objections: list[tuple[int, bytes]] = field(default_factory=list)
    """SMTP: what the server said no to, in whatever step."""
    replies: int = 0
    """SMTP: how many answers came during this attempt."""
    refused: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """SMTP: the recipients refused, by the address as it stood in the envelope."""
    reply: tuple[int, bytes] | None = None
    """SMTP: the answer to the final dot."""
    accepted: int = 0
    """SMTP: how many times the server took the message."""
    response: Any = None
    """HTTP: the provider's answer."""
    build_error: Exception | None = None
    """What `message.message()` raised, when nothing had been built before."""
    built: int = 0
    key: Key | None = None
    """How the provider recognises a repetition of this attempt; None where it carries no key of ours."""
    http_headers: dict[str, str] = field(default_factory=dict)
    """HTTP: headers of ours for the request."""
    has_looked: bool = False
    """Whether an answer that had come in time, to a process that had not, was looked for."""

    def begin(self, deadline: float) -> None:
        """Forget the last attempt."""
        self.deadline, self.phase, self.replies = deadline, Phase.BUILD, 0
        self.objections, self.refused, self.reply, self.accepted = [], {}, None, 0
        self.response, self.build_error, self.built = None, None, 0
        self.key, self.http_headers, self.has_looked = None, {}, False

    def left(self) -> float:
        """Return how many seconds the attempt may still take, negative when it is too late."""
        return self.deadline - time.monotonic()

    def hand_over(self, phase: Phase) -> None:
        """Enter a phase from which on the message may have left; where it is too late, stay and raise DeadlinePassed.

        Entered before the look at the clock: whoever sees the attempt past its deadline and not there, another thread for
        one, knows that it never will be.
        """
        before, self.phase = self.phase, phase
        if self.left() <= 0:
            self.phase = before
            raise DeadlinePassed("the deadline passed before the hand-over")

    def patience(self, limit: float) -> float:
        """Return how many seconds one wait may take: the limit, or what is left where that is less."""
        left = self.left()
        if left <= 0:
            raise DeadlinePassed("the deadline has passed")
        return min(limit, left)

    def last_look(self, sock: Any, buffer: Any) -> int | None:
        """Fill the buffer with what of the answer is there already, once, without waiting; None where there is nothing.

        Who stood still past the deadline has a message that is out, and an answer to read. Only once, because a server
        that always has a little more to say is not to be listened to for ever.
        """
        if self.has_looked or self.phase not in (Phase.DOT, Phase.POST):
            return None
        self.has_looked = True
        sock.settimeout(0)
        try:
            count: int = sock.recv_into(buffer)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        return count
