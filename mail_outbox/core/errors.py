"""What the outbox raises, each saying what is wrong, which thing, and what to do."""

import traceback
from collections.abc import Iterable
from difflib import get_close_matches


class OutboxError(Exception):
    """The root of everything the outbox raises on purpose."""


class InvalidMessage(OutboxError, ValueError):
    """The message can never be delivered as it is: no recipient, a bad address, a newline in a header, too large."""


class InvalidOption(OutboxError, ValueError):
    """A keyword of a verb has a value it cannot have: a naive datetime, an expiry in the past, a priority of 1000."""


class UnserializableMessage(OutboxError, TypeError):
    """The message carries a value that cannot be stored; the error names the attribute."""


class UnreadableEnvelope(OutboxError, ValueError):
    """A stored envelope cannot be turned back into a message: a newer version, damaged, or an unknown class."""


class UndecryptableContent(UnreadableEnvelope):
    """A stored content was sealed with a key that is not there, or is not what the key has sealed."""


class UnreadableAttachment(UnreadableEnvelope):
    """The storage does not give the bytes of an attachment; `is_missing` where it says that it has no such file."""

    def __init__(self, text: str, *, is_missing: bool) -> None:
        super().__init__(text)
        self.is_missing = is_missing


class UnknownMailer(OutboxError, KeyError):
    """No mailer of that name is configured; the error lists the ones that are."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would quote the whole sentence.
        return str(self.args[0])


class IdempotencyConflict(OutboxError):
    """The idempotency key already stands for other content, and the caller asked to be told."""


class NotInTransaction(OutboxError):
    """The project demands a transaction around every enqueue (OUTSIDE_ATOMIC="error"), and there is none."""


class InTransaction(OutboxError):
    """The verb goes over the network, or works in small transactions of its own, and one is open around it."""


class OutboxPaused(OutboxError):
    """The mailer is paused, or busy to its limits, so nothing can be sent now; only send_now says so by raising."""


class CancelDelivery(OutboxError):
    """Raised by an interceptor: the message must not go, and why; its entry is cancelled with that reason."""


class WrongState(OutboxError, ValueError):
    """The entry is in a state from which the verb does not lead anywhere."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the closest of the known words, and list them, as the end of an error message."""
    known = sorted(known)
    close = get_close_matches(word, known, n=1)
    suggestion = f" Did you mean '{close[0]}'?" if close else ""
    return f"{suggestion} Known: {', '.join(known) or 'none'}."


def stack_of(error: BaseException) -> str:
    """Return where the error was raised, without what it says, which may hold an address."""
    return "".join(traceback.format_tb(error.__traceback__))
