"""How far this process trusts a mailer: one sender tries it first, and all of them go once it has answered."""

import time
from dataclasses import dataclass
from datetime import timedelta

from mail_outbox.conf import MailerOptions
from mail_outbox.core.throttle import room_after_recovery


@dataclass(slots=True)
class _Trust:
    began_at: float
    used_at: float
    is_warm: bool = False


class Warmth:
    """Keeps a password that has become wrong from being tried by all senders of all workers at once.

    Cold again once the connections are closed: whoever opens the next ones has to log in anew.
    """

    def __init__(self) -> None:
        self._trusts: dict[str, _Trust] = {}

    def senders(self, alias: str, options: MailerOptions, *, busy: int) -> int:
        """Return how many senders may be busy with the mailer now: one, doubling every second while nothing is known."""
        trust = self._trust(alias, options, busy)
        if trust is None:
            return 1
        if trust.is_warm:
            return options.concurrency
        return room_after_recovery(options.concurrency, timedelta(seconds=time.monotonic() - trust.began_at))

    def note_claim(self, alias: str, options: MailerOptions, *, busy: int) -> None:
        """Note that the mailer is about to be tried, while so many senders are at it already."""
        now = time.monotonic()
        trust = self._trust(alias, options, busy)
        if trust is None:
            self._trusts[alias] = _Trust(began_at=now, used_at=now)
        else:
            trust.used_at = now

    def note_reached(self, alias: str) -> None:
        """Note that the mailer has taken a message, or judged one."""
        now = time.monotonic()
        self._trusts[alias] = _Trust(began_at=now, used_at=now, is_warm=True)

    def note_trouble(self, alias: str) -> None:
        """Begin again with one sender."""
        self._trusts.pop(alias, None)

    def _trust(self, alias: str, options: MailerOptions, busy: int) -> _Trust | None:
        trust = self._trusts.get(alias)
        if trust is None or busy or time.monotonic() - trust.used_at < options.idle_after.total_seconds():
            return trust
        return None
