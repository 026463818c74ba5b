"""Decisions: one table of what follows from what."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail_outbox.core.outcomes import (
    WORKER_LOST,
    Ambiguous,
    Cancelled,
    MailerTrouble,
    Partial,
    Permanent,
    Refusal,
    Sent,
    Throttled,
    Transient,
)
from mail_outbox.core.retry import GIVE_BACK, GIVE_BACK_BEHIND, Backoff, Decision, History, Policy, decide
from mail_outbox.core.states import State, Verb, is_allowed

FIRST = History(attempts=1, age=timedelta(0))
LAST = History(attempts=30, age=timedelta(hours=1))
OLD = History(attempts=2, age=timedelta(hours=72))
RETRY = Policy(max_attempts=30, max_age=timedelta(hours=72), backoff=Backoff(), on_ambiguous="retry")
HOLD = Policy(max_attempts=30, max_age=timedelta(hours=72), backoff=Backoff(), on_ambiguous="hold")
FOR_GOOD = Refusal("550", "no such user", for_good=True)
FOR_NOW = Refusal("450", "greylisted", for_good=False)
LOST = Ambiguous(code=WORKER_LOST)


def scheduled(seconds: float) -> Decision:
    return Decision(state=State.SCHEDULED, due_after=timedelta(seconds=seconds))


def failed(reason: str) -> Decision:
    return Decision(state=State.FAILED, reason=reason)


def held(reason: str) -> Decision:
    return Decision(state=State.HELD, reason=reason)


PARTLY_SENT = Decision(state=State.SENT, reason="some recipients refused")


@pytest.mark.parametrize(
    ("outcome", "history", "policy", "decision"),
    [
        (Sent(), FIRST, RETRY, Decision(state=State.SENT)),
        (Sent(), LAST, HOLD, Decision(state=State.SENT)),
        (Throttled(), FIRST, RETRY, GIVE_BACK),
        (Throttled(), History(attempts=1, age=timedelta(0), troubles=1), RETRY, GIVE_BACK),
        (MailerTrouble(), History(attempts=1, age=timedelta(0), troubles=2), RETRY, GIVE_BACK_BEHIND),
        (MailerTrouble(), LAST, RETRY, GIVE_BACK),
        (Cancelled(), FIRST, RETRY, Decision(state=State.CANCELLED, reason="cancelled by the mailer", counted=False)),
        (Transient(), FIRST, RETRY, scheduled(30)),
        (Transient(), History(attempts=3, age=timedelta(0)), RETRY, scheduled(120)),
        (Transient(not_before=timedelta(minutes=5)), FIRST, RETRY, scheduled(300)),
        (Transient(), LAST, RETRY, failed("attempts used up")),
        (Transient(), OLD, RETRY, failed("too old")),
        (Transient(), History(attempts=30, age=timedelta(0), accepted_before=True), RETRY, PARTLY_SENT),
        (Permanent(code="550"), FIRST, RETRY, failed("550")),
        (Permanent(), FIRST, RETRY, failed("refused")),
        (Permanent(), History(attempts=2, age=timedelta(0), accepted_before=True), RETRY, PARTLY_SENT),
        (Partial(refused={"a@x": FOR_GOOD}), FIRST, RETRY, PARTLY_SENT),
        (Partial(refused={"a@x": FOR_GOOD, "b@x": FOR_NOW}), FIRST, RETRY, scheduled(30)),
        (Partial(refused={"b@x": FOR_NOW}), LAST, RETRY, PARTLY_SENT),
        (Ambiguous(), FIRST, RETRY, scheduled(30)),
        (Ambiguous(), History(attempts=2, age=timedelta(0), ambiguous=1), RETRY, scheduled(60)),
        (Ambiguous(), History(attempts=3, age=timedelta(0), ambiguous=2), RETRY, held("ambiguous")),
        (Ambiguous(), FIRST, HOLD, held("ambiguous")),
        (Ambiguous(), LAST, RETRY, held("ambiguous")),
        (Ambiguous(), OLD, RETRY, held("ambiguous")),
        (LOST, FIRST, RETRY, scheduled(30)),
        (LOST, FIRST, HOLD, held("ambiguous")),
        (LOST, History(attempts=3, age=timedelta(0), ambiguous=2, lost_workers=2), RETRY, held("poison")),
    ],
)
def test_a_decision_follows_from_outcome_history_and_policy(outcome, history, policy, decision):
    assert decide(outcome, history=history, policy=policy, luck=1.0) == decision


OUTCOMES = st.sampled_from(
    [
        *(Sent(), Throttled(), MailerTrouble(), Cancelled(), Transient(), Permanent(), Ambiguous(), LOST),
        *(Partial(refused={"a@x": FOR_GOOD}), Partial(refused={"a@x": FOR_NOW})),
    ]
)
HISTORIES = st.builds(
    History,
    attempts=st.integers(1, 1000),
    age=st.timedeltas(timedelta(0), timedelta(days=30)),
    ambiguous=st.integers(0, 5),
    lost_workers=st.integers(0, 5),
    accepted_before=st.booleans(),
)


@given(outcome=OUTCOMES, history=HISTORIES, policy=st.sampled_from([RETRY, HOLD]), luck=st.floats(0, 1))
def test_every_decision_is_a_change_the_table_allows(outcome, history, policy, luck):
    decision = decide(outcome, history=history, policy=policy, luck=luck)

    assert is_allowed(Verb.SETTLE, State.SENDING, decision.state)
    assert (decision.due_after is not None) == (decision.state is State.SCHEDULED or decision == GIVE_BACK_BEHIND)


@given(history=HISTORIES, luck=st.floats(0, 1))
def test_under_hold_nothing_that_may_have_been_sent_goes_again_by_itself(history, luck):
    assert decide(Ambiguous(), history=history, policy=HOLD, luck=luck).state is State.HELD


class TestBackoff:
    def test_it_doubles_from_thirty_seconds_up_to_four_hours(self):
        minutes = [Backoff().delay_after(attempt, luck=1.0) / timedelta(minutes=1) for attempt in range(1, 12)]

        assert minutes == [0.5, 1, 2, 4, 8, 16, 32, 64, 128, 240, 240]

    @given(attempt=st.integers(0, 10**6), luck=st.floats(0, 1))
    def test_it_stays_between_nothing_and_the_longest(self, attempt, luck):
        assert timedelta(0) <= Backoff().delay_after(attempt, luck=luck) <= timedelta(hours=4)
