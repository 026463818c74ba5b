"""The same refusal message after message: when it is the mailer's trouble, and no message is to blame."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mail_outbox.core.outcomes import (
    REFUSALS_IN_A_ROW,
    Kind,
    MailerTrouble,
    Outcome,
    Permanent,
    Transient,
)

LIMITS = {"sender": 3, "http": 5, "transient": 5}
"""How many in a row are the mailer's, by the first word of the pattern."""
PATTERNS = ("sender:", "http:")
"""How the pattern of a refusal begins."""
MOST_STREAKS = 10
"""How many are followed at once for one mailer; the shortest are forgotten first."""
SUCCESSES = frozenset({Kind.SENT, Kind.PARTIAL})
"""What ends every streak: the mailer does take messages."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One attempt that has ended: of which entry, its number, and what it came to."""

    entry: int
    number: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Streak:
    """Refusals of one pattern without a success in between; a mark for each, no more than it takes."""

    pattern: str
    marks: tuple[str, ...]

    @property
    def limit(self) -> int:
        """Return how many in a row are the mailer's trouble."""
        # Another version may have written of a kind that this one does not know, and counts no further.
        return LIMITS.get(self.pattern.partition(":")[0], len(self.marks) + 1)

    @property
    def is_complete(self) -> bool:
        """Tell whether the next refusal of the pattern says something of the mailer, not of the message."""
        return len(self.marks) >= self.limit

    def with_mark(self, mark: str) -> "Streak":
        """Return the streak with one more, where that is a new one and not known to be too many."""
        is_known = mark in self.marks or self.is_complete
        return self if is_known else Streak(self.pattern, (*self.marks, mark))


Streaks = tuple[Streak, ...]


def pattern_of(outcome: Outcome) -> str:
    """Return what the refusal has in common with others for the same reason; empty where it is no such refusal."""
    if isinstance(outcome, Permanent):
        # A project's classifier may have put anything there.
        return outcome.pattern if outcome.pattern.startswith(PATTERNS) else ""
    return "transient" if isinstance(outcome, Transient) and outcome.is_mailers else ""


def matter(outcomes: Iterable[Outcome], *, is_following: bool) -> bool:
    """Tell whether the outcomes can change the streaks; a success only where there is one to end."""
    return any(pattern_of(outcome) or (is_following and outcome.kind in SUCCESSES) for outcome in outcomes)


def follow(streaks: Streaks, attempts: Sequence[Ended]) -> tuple[Streaks, list[Outcome]]:
    """Return the streaks after these attempts, and the outcomes, those that complete or continue one made the mailer's trouble.

    A refusal counts once per message, so that a message which is tried again and again proves nothing; a failure of
    the mailer's own counts once per attempt.
    """
    followed = {streak.pattern: streak for streak in streaks}
    outcomes = []
    for attempt in attempts:
        outcome = attempt.outcome
        pattern = pattern_of(outcome)
        if outcome.kind in SUCCESSES:
            followed.clear()
        elif pattern:
            mark = f"{attempt.entry}.{attempt.number}" if pattern == "transient" else str(attempt.entry)
            streak = followed.get(pattern, Streak(pattern, ())).with_mark(mark)
            followed[pattern] = streak
            outcome = _trouble(outcome, streak) if streak.is_complete else outcome
        outcomes.append(outcome)
    while len(followed) > MOST_STREAKS:
        del followed[min(followed, key=lambda pattern: len(followed[pattern].marks))]
    return tuple(followed.values()), outcomes


def _trouble(outcome: Outcome, streak: Streak) -> Outcome:
    if isinstance(outcome, Transient):
        # The mailer rests, and the attempt counts all the same: a message that fails every time comes to an end.
        return replace(outcome, is_in_a_row=True)
    said = f"{outcome.code} {outcome.text}".strip()
    return MailerTrouble(code=REFUSALS_IN_A_ROW, text=f"{streak.limit} different messages in a row: {said}")
