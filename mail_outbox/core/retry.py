"""What happens next: the decision made from an outcome, the policy of the message and its attempts."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from mail_outbox.core.outcomes import REFUSALS_IN_A_ROW, SUPPRESSED, WORKER_LOST, Ambiguous, Kind, Outcome, Transient
from mail_outbox.core.routing import Route
from mail_outbox.core.states import State

OnAmbiguous = Literal["retry", "hold"]

AMBIGUOUS_RETRIES = 2
"""How often an attempt that nobody can know the end of is repeated by itself."""
KEY_SHARE = 0.8
"""The part of a provider's key's life in which a repetition counts on it."""
TROUBLES_IN_PLACE = 3
"""How often an entry meets its mailer in trouble before it goes behind the others: it may be the trouble itself."""
LONGEST_WAIT = timedelta(days=365)
"""How long a provider, or a project's classifier, may ask to wait: far beyond lie moments that no database can store."""
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
        # In seconds, because a timedelta overflows.
        is_grown = self.first.total_seconds() * factor >= self.longest.total_seconds()
        return (self.longest if is_grown else self.first * factor) * luck


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long to go on trying, what to do when nobody can know, and the route whose mailers may all be tried."""

    max_attempts: int
    max_age: timedelta
    backoff: Backoff
    on_ambiguous: OnAmbiguous
    route: Route | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is known of an entry when an attempt has ended; counts are since it was enqueued or last retried by a person.

    `age` runs from the moment it was first due; `ambiguous`, `lost_workers` and `troubles` (the
    mailer's, not counted as attempts) do not count the attempt being decided, nor `ambiguous` those whose repetition the
    provider recognises. `tried` names the mailers that were tried in vain since the entry was last due, the one of this
    attempt last. `took` is how long ago the attempt being decided began; `key_left` how long the provider still
    recognises a repetition by its key (None: it was never asked to); `may_be_out` where an earlier attempt may have gone
    out, and `was_ambiguous` where one ever has, also before a person's retry. `refused_ago` is how long ago the same mailer
    last refused one for now (None: never).
    """

    attempts: int
    age: timedelta
    ambiguous: int = 0
    lost_workers: int = 0
    troubles: int = 0
    tried: tuple[str, ...] = ()
    accepted_before: bool = False
    took: timedelta = timedelta(0)
    key_left: timedelta | None = None
    may_be_out: bool = False
    was_ambiguous: bool = False
    refused_ago: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The state to settle in; an uncounted attempt is given back.

    `due_after` goes with `scheduled`, and with a `queued` entry that loses its place in line. `using` names another
    mailer that has the next try. From now on the provider recognises a repetition for `recognised_for`; None leaves that
    as it was.
    """

    state: State
    reason: str = ""
    due_after: timedelta | None = None
    counted: bool = True
    using: str | None = None
    recognised_for: timedelta | None = None


GIVE_BACK = Decision(state=State.QUEUED, counted=False)
"""The decision for an entry that was claimed and provably not tried: its place in line is kept."""
GIVE_BACK_BEHIND = Decision(state=State.QUEUED, counted=False, due_after=timedelta(0))
"""The same, behind all that is due by now."""
HOLD_UNSENT = Decision(state=State.HELD, reason="ambiguous", counted=False)
"""The decision for an entry that may be out and must not go again, because the provider would not recognise it any more."""

SOME_REFUSED = Decision(state=State.SENT, reason="some recipients refused")
"""The decision for an entry that somebody has, and whose other recipients nobody will try any more."""


def decide(outcome: Outcome, *, history: History, policy: Policy, luck: float) -> Decision:
    """Choose what happens to the entry after this outcome."""
    match outcome.kind:
        case Kind.SENT:
            return Decision(state=State.SENT)
        case Kind.THROTTLED | Kind.MAILER:
            return _give_back(outcome, history, policy, luck)
        case Kind.CANCELLED if outcome.code == SUPPRESSED and history.accepted_before:
            return Decision(state=State.SENT, reason="some recipients suppressed", counted=False)
        case Kind.CANCELLED:
            return Decision(
                state=State.CANCELLED, reason=outcome.text or outcome.code or "cancelled by the mailer", counted=False
            )
        case Kind.AMBIGUOUS:
            return _after_ambiguous(outcome, history, policy, luck)
        case Kind.PARTIAL if all(refusal.for_good for refusal in outcome.refused.values()):
            return SOME_REFUSED
        case Kind.PARTIAL:
            return _try_again(outcome, history, policy, luck, accepted=True)
        case Kind.TRANSIENT:
            decision = _try_again(outcome, history, policy, luck, accepted=history.accepted_before)
            return _move_on(decision, outcome, history, policy, luck)
        case Kind.PERMANENT:
            return _give_up(outcome.code or "refused", accepted=history.accepted_before)


def _give_back(outcome: Outcome, history: History, policy: Policy, luck: float) -> Decision:
    # The next probe should not be a message that is refused for what others are refused for.
    is_suspect = outcome.code == REFUSALS_IN_A_ROW or history.troubles + 1 >= TROUBLES_IN_PLACE
    decision = GIVE_BACK_BEHIND if is_suspect else GIVE_BACK
    if policy.route is None or not history.tried:
        return decision
    # Round and round, because each mailer that rests needs a message to be tried with one day.
    using = policy.route.untried(history.tried, luck=luck) or policy.route.neighbour(history.tried[-1])
    return replace(decision, using=using)


def _move_on(decision: Decision, outcome: Outcome, history: History, policy: Policy, luck: float) -> Decision:
    """Let every mailer of the route have a try before the wait that was decided on, which ends with the first again."""
    is_mailers = isinstance(outcome, Transient) and outcome.is_mailers
    if policy.route is None or not is_mailers or decision.state is not State.SCHEDULED:
        return decision
    using = policy.route.untried(history.tried, luck=luck)
    if using is not None:
        return Decision(state=State.QUEUED, using=using)
    return replace(decision, using=policy.route.choose(policy.route.mailers, luck=luck))


def _try_again(outcome: Outcome, history: History, policy: Policy, luck: float, *, accepted: bool) -> Decision:
    if history.attempts >= policy.max_attempts:
        return _give_up("attempts used up", accepted=accepted)
    if history.age >= policy.max_age:
        return _give_up("too old", accepted=accepted)
    delay = policy.backoff.delay_after(history.attempts, luck=luck)
    if isinstance(outcome, Transient) and outcome.not_before is not None:
        delay = max(delay, min(outcome.not_before, LONGEST_WAIT))
    return Decision(state=State.SCHEDULED, due_after=delay)


def _give_up(reason: str, *, accepted: bool) -> Decision:
    # Somebody has the message: "failed" would invite a retry that writes to them twice.
    if accepted:
        return SOME_REFUSED
    return Decision(state=State.FAILED, reason=reason)


def _after_ambiguous(outcome: Outcome, history: History, policy: Policy, luck: float) -> Decision:
    if outcome.code == WORKER_LOST and history.lost_workers + 1 >= LOST_WORKERS:
        return Decision(state=State.HELD, reason="poison")
    used_up = history.attempts >= policy.max_attempts or history.age >= policy.max_age
    key_left = _key_left(outcome, history)
    if key_left > timedelta(0) and not used_up:
        return Decision(
            state=State.SCHEDULED,
            # Half of what is left, so that there is time to wait for a sweep and a free sender.
            due_after=min(policy.backoff.delay_after(history.attempts, luck=luck), key_left / 2),
            recognised_for=key_left if history.key_left is None else None,
        )
    if policy.on_ambiguous == "hold" or history.ambiguous >= AMBIGUOUS_RETRIES or used_up:
        return Decision(state=State.HELD, reason="ambiguous")
    delay = policy.backoff.delay_after(history.attempts, luck=luck)
    return Decision(state=State.SCHEDULED, due_after=delay)


def _key_left(outcome: Outcome, history: History) -> timedelta:
    """Return how long a repetition is harmless because the provider recognises it by its key; zero or less: it is not."""
    lifetime = outcome.key_lifetime if isinstance(outcome, Ambiguous) else None
    if history.key_left is not None:
        # A lost worker had the same key as the attempt before it.
        return history.key_left if lifetime is not None or outcome.code == WORKER_LOST else timedelta(0)
    if lifetime is None or history.was_ambiguous:
        return timedelta(0)
    return min(lifetime, LONGEST_WAIT) * KEY_SHARE - history.took
