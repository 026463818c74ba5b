"""What one attempt came to: a fact, never a choice. Public: a project's classifiers return these."""

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
    """The mailer, an interceptor or the guard skipped it on purpose, or all its recipients are suppressed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One recipient was refused: for good (5xx), or for now (4xx).

    `suppresses` where the provider says that it writes to the address no more, whatever the message: it bounced, complained,
    unsubscribed or cannot exist. It goes on the list of suppressed addresses.
    """

    code: str
    text: str
    for_good: bool
    suppresses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attempt came to.

    `code` is the provider's own (SMTP reply, HTTP status, an ESP's code) or a short word of ours; `text` is the
    provider's answer, cut to 256 characters. `refused` is keyed by the address as it stood in the envelope. `withheld`
    names, by normalised address, the recipients that the attempt was kept away from, each with a code that says why.
    """

    kind: ClassVar[Kind]
    code: str = ""
    text: str = ""
    provider_message_id: str = ""
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    withheld: Mapping[str, str] = field(default_factory=dict)


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
    """Not sent; worth repeating. `not_before` is the provider's own minimum wait, as greylisting asks.

    `is_mailers` where it is known that neither the message nor a recipient is to blame, so that another mailer may do;
    `is_in_a_row` where so many of these have come without a success that the mailer had better rest.
    """

    kind = Kind.TRANSIENT
    not_before: timedelta | None = None
    is_mailers: bool = False
    is_in_a_row: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled(Outcome):
    """Not sent; the provider asks the mailer to slow down, for `retry_after` where it says how long."""

    kind = Kind.THROTTLED
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permanent(Outcome):
    """Not sent, and no repetition will change that.

    `pattern` is the same for all messages that would be refused for the same reason, "sender:…" or "http:…", and holds no
    address; empty where the refusal says something of this message or its recipients only.
    """

    kind = Kind.PERMANENT
    pattern: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailerTrouble(Outcome):
    """Not sent, and the message is not to blame: the mailer is unreachable, misconfigured or refuses our login."""

    kind = Kind.MAILER


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous(Outcome):
    """May have been sent: the answer was lost, or cannot be understood. Unknown is this, never "not sent".

    The provider recognises a repetition for `key_lifetime` after the first of them began; None: it does not at all.
    """

    kind = Kind.AMBIGUOUS
    key_lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(Outcome):
    """The mailer, a receiver of its signals, an interceptor, the guard or the list of suppressed addresses stopped it."""

    kind = Kind.CANCELLED


WORKER_LOST = "worker lost"
"""The code of the ambiguous outcome that rescue writes for an entry whose lease ran out."""

INTERCEPTOR = "interceptor"
"""The code of what an interceptor made of an attempt: cancelled, or not sent because the interceptor failed."""
NOT_ALLOWED = "not allowed"
"""The code of an attempt, and of a recipient, that `ALLOW_TO` does not let through."""
REDIRECTED = "redirected"
"""The code of a recipient in whose place the addresses of `REDIRECT_TO` were written to."""
SUPPRESSED = "suppressed"
"""The code of an attempt, and of a recipient, that the list of suppressed addresses stands against."""
BEFORE_THE_MAILER = frozenset({INTERCEPTOR, NOT_ALLOWED, SUPPRESSED})
"""The codes of outcomes that say nothing of the mailer, because it was never asked."""
REFUSALS_IN_A_ROW = "refusals in a row"
"""The code of the mailer's trouble that shows in different messages refused alike, one after the other."""
