"""When to look again for work of a mailer whose queue did not fill its senders the last time."""

import time

APART = 0.025
"""Seconds between two looks while work trickles in, so that what comes meanwhile is claimed together."""


class Looks:
    """What the last look at the queue of each mailer has shown."""

    def __init__(self) -> None:
        self._again_at: dict[str, float] = {}
        self._vain: set[str] = set()

    def forget(self) -> None:
        """Look at all of them afresh."""
        self._again_at.clear()
        self._vain.clear()

    def note(self, alias: str, *, found: int, room: int, is_paced: bool) -> None:
        """Note that a look for so many entries has found so many."""
        self._again_at.pop(alias, None)
        if is_paced and 0 < found < room:
            self._again_at[alias] = time.monotonic() + APART
        (self._vain.discard if found else self._vain.add)(alias)

    def was_vain(self, alias: str) -> bool:
        """Tell whether there was nothing, so that a glance is to come before the next claim."""
        return alias in self._vain

    def seconds_until_next(self, alias: str) -> float | None:
        """Return how long to leave the mailer's queue alone for now, or None where it may be looked at."""
        left = self._again_at.get(alias, 0.0) - time.monotonic()
        return left if left > 0 else None
