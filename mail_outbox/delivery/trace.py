"""How far the current attempt got, and how long it may still take."""

import math
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


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

    deadline: float = math.inf
    phase: Phase = Phase.BUILD
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

    def begin(self, deadline: float) -> None:
        """Forget the last attempt."""
        self.deadline, self.phase, self.replies = deadline, Phase.BUILD, 0
        self.refused, self.reply, self.accepted = {}, None, 0
        self.response, self.build_error, self.built = None, None, 0

    def left(self) -> float:
        """Return how many seconds the attempt may still take, negative when it is too late."""
        return self.deadline - time.monotonic()

    def patience(self, limit: float) -> float:
        """Return how many seconds one wait may take: the limit, or what is left where that is less."""
        left = self.left()
        if left <= 0:
            raise DeadlinePassed("the deadline has passed")
        return min(limit, left)
