"""How long what has finished is kept."""

from dataclasses import dataclass
from datetime import timedelta

from mail_outbox.core.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long after it finished an entry is kept (None: for ever), and how long the content of one that was sent.

    `failed` is for everything that has ended without success. That keeps its content as long as it is there, because a
    person can still retry it. `attempts` and `events` are how long after they happened the attempts and the delivery events
    of what has finished are kept, while their entry stays.
    """

    sent: timedelta | None = timedelta(days=30)
    failed: timedelta | None = timedelta(days=90)
    content: timedelta | None = timedelta(days=7)
    attempts: timedelta | None = None
    events: timedelta | None = None

    def of(self, state: State) -> timedelta | None:
        """Return how long an entry is kept that finished in this state."""
        return self.sent if state is State.SENT else self.failed
