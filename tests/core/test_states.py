"""The table of states: every change there is, and no other."""

import itertools

import pytest

from mail_outbox.core.states import FINISHED, TRANSITIONS, UNFINISHED, WAITING, State, Verb, is_allowed, sources

ALLOWED = {
    (Verb.ENQUEUE, None, State.QUEUED),
    (Verb.ENQUEUE, None, State.SCHEDULED),
    (Verb.PROMOTE, State.SCHEDULED, State.QUEUED),
    (Verb.CLAIM, State.QUEUED, State.SENDING),
    (Verb.SETTLE, State.SENDING, State.SENT),
    (Verb.SETTLE, State.SENDING, State.SCHEDULED),
    (Verb.SETTLE, State.SENDING, State.QUEUED),
    (Verb.SETTLE, State.SENDING, State.FAILED),
    (Verb.SETTLE, State.SENDING, State.HELD),
    (Verb.SETTLE, State.SENDING, State.CANCELLED),
    (Verb.RESCUE, State.SENDING, State.SCHEDULED),
    (Verb.RESCUE, State.SENDING, State.HELD),
    (Verb.EXPIRE, State.SCHEDULED, State.EXPIRED),
    (Verb.EXPIRE, State.QUEUED, State.EXPIRED),
    (Verb.CANCEL, State.SCHEDULED, State.CANCELLED),
    (Verb.CANCEL, State.QUEUED, State.CANCELLED),
    (Verb.HOLD, State.SCHEDULED, State.HELD),
    (Verb.HOLD, State.QUEUED, State.HELD),
    (Verb.RELEASE, State.HELD, State.QUEUED),
    (Verb.RETRY, State.FAILED, State.QUEUED),
    (Verb.RETRY, State.HELD, State.QUEUED),
    (Verb.RETRY, State.EXPIRED, State.QUEUED),
    (Verb.RETRY, State.CANCELLED, State.QUEUED),
    (Verb.RESCHEDULE, State.SCHEDULED, State.SCHEDULED),
    (Verb.RESCHEDULE, State.QUEUED, State.SCHEDULED),
    (Verb.RESCHEDULE, State.HELD, State.SCHEDULED),
    (Verb.MARK_SENT, State.HELD, State.SENT),
    *((Verb.LATE_SUCCESS, state, State.SENT) for state in State if state is not State.SENT),
    (Verb.SET_ASIDE, State.QUEUED, State.HELD),
    *((Verb.ERASE, state, State.CANCELLED) for state in (*WAITING, State.HELD)),
    *((Verb.QUARANTINE, state, State.HELD) for state in UNFINISHED),
    (Verb.SET_ASIDE, State.SENDING, State.HELD),
}


@pytest.mark.parametrize(("verb", "before", "after"), list(itertools.product(Verb, [None, *State], State)))
def test_a_verb_leads_where_the_design_says_and_nowhere_else(verb, before, after):
    assert is_allowed(verb, before, after) == ((verb, before, after) in ALLOWED)


def test_every_state_is_either_finished_or_not():
    assert set(State) == FINISHED | UNFINISHED
    assert not FINISHED & UNFINISHED
    assert WAITING < UNFINISHED


def test_nothing_leaves_sent():
    assert not any(State.SENT in sources(verb) for verb in Verb)


def test_every_state_but_sent_can_be_left_and_every_state_can_be_reached():
    reached = {state for table in TRANSITIONS.values() for states in table.values() for state in states}

    assert reached == set(State)
