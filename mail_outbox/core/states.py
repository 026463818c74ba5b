"""The states of an entry, and which verb leads from where to where."""

from enum import StrEnum


class State(StrEnum):
    """Where an entry stands."""

    SCHEDULED = "scheduled"
    """Waits for its time: a first send in the future, or a retry."""
    QUEUED = "queued"
    """Due; waits for a free sender or a paused mailer."""
    SENDING = "sending"
    """Claimed; may be leaving right now."""
    SENT = "sent"
    """Accepted by the mailer for at least one recipient, and nobody is left to try."""
    FAILED = "failed"
    """Will not go by itself; the reason is recorded."""
    HELD = "held"
    """Needs a person; the reason is recorded."""
    EXPIRED = "expired"
    """Past its expiry, never sent after it."""
    CANCELLED = "cancelled"
    """Stopped on purpose; the reason is recorded."""


class Verb(StrEnum):
    """What moves an entry from one state to another."""

    ENQUEUE = "enqueue"
    PROMOTE = "promote"
    CLAIM = "claim"
    SETTLE = "settle"
    RESCUE = "rescue"
    EXPIRE = "expire"
    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    RESCHEDULE = "reschedule"
    MARK_SENT = "mark sent"
    LATE_SUCCESS = "late success"
    SET_ASIDE = "set aside"
    QUARANTINE = "quarantine"
    ERASE = "erase"


WAITING = frozenset({State.SCHEDULED, State.QUEUED})
UNFINISHED = frozenset({State.SCHEDULED, State.QUEUED, State.SENDING})
FINISHED = frozenset(State) - UNFINISHED
MOVABLE = WAITING | {State.HELD}
OVER = FINISHED - {State.HELD}
"""Sent or dead: nobody needs the content any more, unless to send it again."""
RETRYABLE = frozenset({State.FAILED, State.HELD, State.EXPIRED, State.CANCELLED})

TRANSITIONS: dict[Verb, dict[State | None, frozenset[State]]] = {
    Verb.ENQUEUE: {None: frozenset({State.QUEUED, State.SCHEDULED})},
    Verb.PROMOTE: {State.SCHEDULED: frozenset({State.QUEUED})},
    Verb.CLAIM: {State.QUEUED: frozenset({State.SENDING})},
    Verb.SETTLE: {
        State.SENDING: frozenset({State.SENT, State.SCHEDULED, State.QUEUED, State.FAILED, State.HELD, State.CANCELLED})
    },
    Verb.RESCUE: {State.SENDING: frozenset({State.SCHEDULED, State.HELD})},
    Verb.EXPIRE: {state: frozenset({State.EXPIRED}) for state in WAITING},
    Verb.CANCEL: {state: frozenset({State.CANCELLED}) for state in WAITING},
    Verb.HOLD: {state: frozenset({State.HELD}) for state in WAITING},
    Verb.RELEASE: {State.HELD: frozenset({State.QUEUED})},
    Verb.RETRY: {state: frozenset({State.QUEUED}) for state in RETRYABLE},
    Verb.RESCHEDULE: {state: frozenset({State.SCHEDULED}) for state in MOVABLE},
    Verb.MARK_SENT: {State.HELD: frozenset({State.SENT})},
    Verb.LATE_SUCCESS: {state: frozenset({State.SENT}) for state in State if state is not State.SENT},
    Verb.QUARANTINE: {state: frozenset({State.HELD}) for state in UNFINISHED},
    Verb.ERASE: {state: frozenset({State.CANCELLED}) for state in (*WAITING, State.HELD)},
    Verb.SET_ASIDE: {state: frozenset({State.HELD}) for state in (State.QUEUED, State.SENDING)},
}
"""Every change of state there is, by verb: from which state to which ones. None is an entry that is not there yet."""


def sources(verb: Verb) -> frozenset[State]:
    """List the states from which the verb leads somewhere."""
    return frozenset(state for state in TRANSITIONS[verb] if state is not None)


def is_allowed(verb: Verb, before: State | None, after: State) -> bool:
    """Tell whether the verb may take an entry from one state to the other."""
    return after in TRANSITIONS[verb].get(before, frozenset())
