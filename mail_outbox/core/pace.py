"""How many rows to take at once, so that nobody waits long for the locks of what is done to them."""

from dataclasses import dataclass

LONGEST = 0.2
"""Seconds that a batch should take at the most; what takes longer is halved."""
FIRST = 50
"""How many to begin with, when nothing is known of the machine and the rows."""


@dataclass(slots=True)
class Pace:
    """The size of the next batch: doubled while batches are quick, halved where one is not, `most` at the most."""

    most: int
    size: int = FIRST

    def __post_init__(self) -> None:
        self.size = min(self.size, self.most)

    def note(self, seconds: float) -> None:
        """Take in how long the last batch took."""
        if seconds > LONGEST:
            self.size = max(1, self.size // 2)
        elif seconds < LONGEST / 2:
            self.size = min(self.most, self.size * 2)
