"""What happens next: the decision made from an outcome, the policy of the message and its attempts."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from mail_outbox.core.outcomes import WORKER_LOST, Kind, Outcome, Transient
from mail_outbox.core.states import State

OnAmbiguous = Literal["retry", "hold"]

AMBIGUOUS_RETRIES = 2
"""How often an attempt that nobody can know the end of is repeated by itself."""
TROUBLES_IN_PLACE = 3
"""How often an entry meets its mailer in trouble before it goes behind the others: it may be the trouble itself."""
LOST_WORKERS = 3
"""How many workers an entry may take with it before it is held as poison."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before trying again: doubling from `first`, at most `longest`, full jitter."""

    first: timedelta = timedelta(seconds=30)
    longest: timedelta = timedelta(hours=4)

    def delay_after(self, attempt: int, *, luck: float) -> timedelta:
        """Return how long to wait after the n-th attempt (from 1); `luck` in 0…1 picks the place in the jitter.

        At full luck: 30 s, 1, 2, 4, 8, 16, 32, 64 min, 2 h 8, 4 h, 4 h …
        """
        factor: int = 2 ** min(max(attempt - 1, 0), 40)
        return min(self.longest, self.first * factor) * luck


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long to go on trying, and what to do when nobody can know."""

    max_attempts: int
    max_age: timedelta
    backoff: Backoff
    on_ambiguous: OnAmbiguous


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is known of an entry when an attempt has ended; counts are since it was enqueued or last retried by a person.

    `age` runs from the moment it was first due; `ambiguous`, `lost_workers` and `troubles` (the
    mailer's, not counted as attempts) do not count the attempt being decided.
    """

    attempts: int
    age: timedelta
    ambiguous: int = 0
    lost_workers: int = 0
    troubles: int = 0
    accepted_before: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The state to settle in; an uncounted attempt is given back.

    `due_after` goes with `scheduled`, and with a `queued` entry that loses its place in line.
    """

    state: State
    reason: str = ""
    due_after: timedelta | None = None
    counted: bool = True


GIVE_BACK = Decision(state=State.QUEUED, counted=False)
"""The decision for an entry that was claimed and provably not tried: its place in line is kept."""
GIVE_BACK_BEHIND = Decision(state=State.QUEUED, counted=False, due_after=timedelta(0))
"""The same, behind all that is due by now."""


def decide(outcome: Outcome, *, history: History, policy: Policy, luck: float) -> Decision:
    """Choose what happens to the entry after this outcome."""
    match outcome.kind:
        case Kind.SENT:
            return Decision(state=State.SENT)
        case Kind.THROTTLED | Kind.MAILER if history.troubles + 1 < TROUBLES_IN_PLACE:
            return GIVE_BACK
        case Kind.THROTTLED | Kind.MAILER:
            return GIVE_BACK_BEHIND
        case Kind.CANCELLED:
            return Decision(state=State.CANCELLED, reason=outcome.code or "cancelled by the mailer", counted=False)
        case Kind.AMBIGUOUS:
            return _after_ambiguous(outcome, history, policy, luck)
        case Kind.PARTIAL if all(refusal.for_good for refusal in outcome.refused.values()):
            return Decision(state=State.SENT, reason="some recipients refused")
        case Kind.PARTIAL:
            return _try_again(outcome, history, policy, luck, accepted=True)
        case Kind.TRANSIENT:
            return _try_again(outcome, history, policy, luck, accepted=history.accepted_before)
        case Kind.PERMANENT:
            return _give_up(outcome.code or "refused", accepted=history.accepted_before)


def _try_again(outcome: Outcome, history: History, policy: Policy, luck: float, *, accepted: bool) -> Decision:
    if history.attempts >= policy.max_attempts:
        return _give_up("attempts used up", accepted=accepted)
    if history.age >= policy.max_age:
        return _give_up("too old", accepted=accepted)
    delay = policy.backoff.delay_after(history.attempts, luck=luck)
    if isinstance(outcome, Transient) and outcome.not_before is not None:
        delay = max(delay, outcome.not_before)
    return Decision(state=State.SCHEDULED, due_after=delay)


def _give_up(reason: str, *, accepted: bool) -> Decision:
    # Somebody has the message: "failed" would invite a retry that writes to them twice.
    if accepted:
        return Decision(state=State.SENT, reason="some recipients refused")
    return Decision(state=State.FAILED, reason=reason)


def _after_ambiguous(outcome: Outcome, history: History, policy: Policy, luck: float) -> Decision:
    if outcome.code == WORKER_LOST and history.lost_workers + 1 >= LOST_WORKERS:
        return Decision(state=State.HELD, reason="poison")
    used_up = history.attempts >= policy.max_attempts or history.age >= policy.max_age
    if policy.on_ambiguous == "hold" or history.ambiguous >= AMBIGUOUS_RETRIES or used_up:
        return Decision(state=State.HELD, reason="ambiguous")
    delay = policy.backoff.delay_after(history.attempts, luck=luck)
    return Decision(state=State.SCHEDULED, due_after=delay)
