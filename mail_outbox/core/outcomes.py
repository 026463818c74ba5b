"""What one attempt came to: a fact, never a choice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar


class Kind(StrEnum):
    """The kinds of outcome, as they stand on an attempt."""

    SENT = "sent"
    """The provider took responsibility for every recipient of the attempt."""
    PARTIAL = "partial"
    """Some recipients were accepted, some refused."""
    TRANSIENT = "transient"
    """Definitely not sent, worth repeating."""
    THROTTLED = "throttled"
    """The provider says slower; the mailer pauses, the message is unharmed."""
    PERMANENT = "permanent"
    """This message can never go."""
    MAILER = "mailer"
    """Authentication, configuration, unreachable: nothing to do with this message."""
    AMBIGUOUS = "ambiguous"
    """May have been sent."""
    CANCELLED = "cancelled"
    """The mailer skipped it on purpose."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One recipient was refused: for good (5xx), or for now (4xx)."""

    code: str
    text: str
    for_good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attempt came to.

    `code` is the provider's own (SMTP reply, HTTP status, an ESP's code) or a short word of ours; `text` is the
    provider's answer, cut to 256 characters. `refused` is keyed by the address as it stood in the envelope.
    """

    kind: ClassVar[Kind]
    code: str = ""
    text: str = ""
    provider_message_id: str = ""
    refused: Mapping[str, Refusal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent(Outcome):
    """Accepted for every recipient of the attempt."""

    kind = Kind.SENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial(Outcome):
    """Accepted for some recipients; `refused` names the others."""

    kind = Kind.PARTIAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Transient(Outcome):
    """Not sent; worth repeating. `not_before` is the provider's own minimum wait, as greylisting asks."""

    kind = Kind.TRANSIENT
    not_before: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled(Outcome):
    """Not sent; the provider asks the mailer to slow down, for `retry_after` where it says how long."""

    kind = Kind.THROTTLED
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permanent(Outcome):
    """Not sent, and no repetition will change that."""

    kind = Kind.PERMANENT


@dataclass(frozen=True, slots=True, kw_only=True)
class MailerTrouble(Outcome):
    """Not sent, and the message is not to blame: the mailer is unreachable, misconfigured or refuses our login."""

    kind = Kind.MAILER


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous(Outcome):
    """May have been sent: the answer was lost, or cannot be understood. Unknown is this, never "not sent"."""

    kind = Kind.AMBIGUOUS


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(Outcome):
    """The mailer, or a receiver of its signals, skipped the message on purpose."""

    kind = Kind.CANCELLED


WORKER_LOST = "worker lost"
"""The code of the ambiguous outcome that rescue writes for an entry whose lease ran out."""
