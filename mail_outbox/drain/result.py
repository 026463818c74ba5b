"""What a drain did, counted."""

from collections import Counter
from dataclasses import asdict, dataclass

from mail_outbox.core.counts import Counts
from mail_outbox.core.outcomes import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainResult(Counts):
    """Counts of one drain: attempts by outcome, and what else was moved; `is_work_left` when due entries remain."""

    sent: int = 0
    partial: int = 0
    transient: int = 0
    throttled: int = 0
    permanent: int = 0
    mailer: int = 0
    ambiguous: int = 0
    cancelled: int = 0
    given_back: int = 0
    held: int = 0
    promoted: int = 0
    expired: int = 0
    rescued: int = 0
    is_work_left: bool = False

    @property
    def attempts(self) -> int:
        """Return how many attempts were made at mailers."""
        return sum(getattr(self, kind) for kind in Kind)

    def plus(self, other: "DrainResult") -> "DrainResult":
        """Return the sum of two drains."""
        sums = {name: value + getattr(other, name) for name, value in asdict(self).items() if name != "is_work_left"}
        return DrainResult(**sums, is_work_left=self.is_work_left or other.is_work_left)


class Tally(Counter[str]):
    """The counts of a drain while it runs, by the names of `DrainResult`."""

    def result(self, *, is_work_left: bool) -> DrainResult:
        """Freeze the counts."""
        return DrainResult(**self, is_work_left=is_work_left)
