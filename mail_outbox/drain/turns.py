"""Places for the oldest: one in so many goes to it whatever its priority, so that nothing starves."""

from collections import Counter

OLDEST_ONE_IN = 10


class Turns:
    """How many messages of each mailer have been served, and which of the next places are for the oldest."""

    def __init__(self) -> None:
        self._served: Counter[str] = Counter()

    def oldest_of(self, alias: str, places: int) -> range:
        """Return which of so many next places, counted from 0, are for the oldest."""
        return range(-(self._served[alias] + 1) % OLDEST_ONE_IN, places, OLDEST_ONE_IN)

    def note(self, alias: str, count: int) -> None:
        """Note that so many have been served."""
        self._served[alias] += count
