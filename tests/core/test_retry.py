"""Decisions: one table of what follows from what."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail_outbox.core.outcomes import (
    REFUSALS_IN_A_ROW,
    SUPPRESSED,
    WORKER_LOST,
    Ambiguous,
    Cancelled,
    MailerTrouble,
    Outcome,
    Partial,
    Permanent,
    Refusal,
    Sent,
    Throttled,
    Transient,
)
from mail_outbox.core.retry import GIVE_BACK, GIVE_BACK_BEHIND, Backoff, Decision, History, Policy, decide
from mail_outbox.core.routing import Route
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
        (MailerTrouble(code=REFUSALS_IN_A_ROW), FIRST, RETRY, GIVE_BACK_BEHIND),
        (Cancelled(), FIRST, RETRY, Decision(state=State.CANCELLED, reason="cancelled by the mailer", counted=False)),
        (
            Cancelled(code=SUPPRESSED),
            FIRST,
            RETRY,
            Decision(state=State.CANCELLED, reason="suppressed", counted=False),
        ),
        (
            Cancelled(code=SUPPRESSED),
            History(attempts=2, age=timedelta(0), accepted_before=True),
            RETRY,
            Decision(state=State.SENT, reason="some recipients suppressed", counted=False),
        ),
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


class TestProvidersKey:
    """A repetition that the provider recognises is harmless, so it is made, whatever the policy."""

    KEYED = Ambiguous(code="timeout", key_lifetime=timedelta(minutes=10))
    MINUTE = timedelta(minutes=1)

    def knows(self, left: timedelta, **fields) -> History:
        return History(attempts=2, age=timedelta(0), key_left=left, may_be_out=True, was_ambiguous=True, **fields)

    @pytest.mark.parametrize("policy", [RETRY, HOLD])
    def test_it_is_repeated_whatever_the_policy(self, policy):
        history = History(attempts=1, age=timedelta(0), took=self.MINUTE)

        assert decide(self.KEYED, history=history, policy=policy, luck=1.0) == Decision(
            state=State.SCHEDULED, due_after=timedelta(seconds=30), recognised_for=timedelta(minutes=7)
        )

    def test_the_wait_is_cut_so_that_it_happens_while_the_key_lives(self):
        history = History(attempts=10, age=timedelta(0), took=7 * self.MINUTE)

        assert decide(self.KEYED, history=history, policy=HOLD, luck=1.0).due_after == timedelta(seconds=30)

    @pytest.mark.parametrize("outcome", [KEYED, LOST])
    def test_its_time_runs_from_the_first_attempt(self, outcome):
        decision = decide(outcome, history=self.knows(self.MINUTE), policy=HOLD, luck=1.0)

        assert decision == Decision(state=State.SCHEDULED, due_after=timedelta(seconds=30))

    def test_it_is_not_counted_among_the_repetitions(self):
        history = self.knows(self.MINUTE, ambiguous=5)

        assert decide(self.KEYED, history=history, policy=RETRY, luck=1.0).state is State.SCHEDULED

    @pytest.mark.parametrize(
        ("policy", "ambiguous", "expected"), [(HOLD, 0, "held"), (RETRY, 0, "scheduled"), (RETRY, 2, "held")]
    )
    def test_after_its_time_the_policy_decides(self, policy, ambiguous, expected):
        history = self.knows(timedelta(0), ambiguous=ambiguous)

        decision = decide(self.KEYED, history=history, policy=policy, luck=1.0)

        assert (decision.state, decision.recognised_for) == (expected, None)

    def test_an_attempt_that_took_too_long_is_none_it_helps(self):
        history = History(attempts=1, age=timedelta(0), took=8 * self.MINUTE)

        assert decide(self.KEYED, history=history, policy=HOLD, luck=1.0) == held("ambiguous")

    def test_who_knows_when_the_first_attempt_was_if_a_worker_was_lost_over_it(self):
        history = History(attempts=2, age=timedelta(0), ambiguous=1, may_be_out=True, was_ambiguous=True)

        assert decide(self.KEYED, history=history, policy=HOLD, luck=1.0) == held("ambiguous")

    def test_an_attempt_without_it_is_not_repeated_on_its_account(self):
        assert decide(Ambiguous(), history=self.knows(self.MINUTE), policy=HOLD, luck=1.0) == held("ambiguous")

    @pytest.mark.parametrize("history", [LAST, OLD])
    def test_it_makes_nothing_go_on_for_ever(self, history):
        assert decide(self.KEYED, history=history, policy=RETRY, luck=1.0) == held("ambiguous")

    def test_three_lost_workers_are_poison_all_the_same(self):
        history = self.knows(self.MINUTE, lost_workers=2)

        assert decide(LOST, history=history, policy=RETRY, luck=1.0) == held("poison")


OUTCOMES = st.sampled_from(
    [
        *(Sent(), Throttled(), MailerTrouble(), Cancelled(), Transient(), Permanent(), Ambiguous(), LOST),
        *(Partial(refused={"a@x": FOR_GOOD}), Partial(refused={"a@x": FOR_NOW})),
        *(Ambiguous(key_lifetime=timedelta(hours=24)), MailerTrouble(code=REFUSALS_IN_A_ROW)),
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


class TestRoutes:
    ROUTED = replace(RETRY, route=Route("main", ("a", "b", "c")))
    MAILERS_OWN = Transient(is_mailers=True)

    def decide(self, outcome: Outcome, *tried: str, policy: Policy = ROUTED, **known: Any) -> Decision:
        history = History(**{"attempts": 1, "age": timedelta(0), "tried": tried, **known})
        return decide(outcome, history=history, policy=policy, luck=1.0)

    @pytest.mark.parametrize("outcome", [MailerTrouble(), Throttled()], ids=["mailer", "throttled"])
    def test_trouble_of_the_mailer_is_the_next_ones_turn_at_no_cost(self, outcome):
        assert self.decide(outcome, "a") == replace(GIVE_BACK, using="b")
        assert self.decide(outcome, "a", "b") == replace(GIVE_BACK, using="c")
        assert self.decide(outcome, "b") == replace(GIVE_BACK, using="a")

    def test_where_everybody_is_in_trouble_it_goes_round(self):
        turns = [self.decide(MailerTrouble(), *tried).using for tried in ("abc", "abca", "abcab")]

        assert turns == ["a", "b", "c"]

    def test_a_message_that_only_meets_trouble_goes_behind_the_others(self):
        assert self.decide(MailerTrouble(), "a", troubles=2) == replace(GIVE_BACK_BEHIND, using="b")

    def test_a_failure_of_the_mailers_own_is_the_next_ones_turn_at_once_and_counts(self):
        assert self.decide(self.MAILERS_OWN, "a") == Decision(state=State.QUEUED, using="b")
        assert self.decide(self.MAILERS_OWN, "a", "b") == Decision(state=State.QUEUED, using="c")

    def test_after_the_last_it_waits_and_begins_with_the_first_again(self):
        waits = self.decide(self.MAILERS_OWN, "a", "b", "c", attempts=3)

        assert waits == replace(scheduled(120), using="a")

    def test_the_last_attempt_is_the_last_whoever_is_left(self):
        assert self.decide(self.MAILERS_OWN, "a", attempts=30) == failed("attempts used up")
        assert self.decide(self.MAILERS_OWN, "a", age=timedelta(hours=72)) == failed("too old")

    @pytest.mark.parametrize(
        "outcome",
        [
            Transient(),
            Transient(not_before=timedelta(minutes=5)),
            Transient(refused={"a@x": FOR_NOW}),
            Permanent(code="550"),
            Partial(refused={"a@x": FOR_NOW}),
            Partial(refused={"a@x": FOR_GOOD}),
            Ambiguous(),
            LOST,
            Cancelled(),
            Sent(),
        ],
    )
    @pytest.mark.parametrize("policy", [RETRY, HOLD], ids=["retry", "hold"])
    def test_nothing_else_moves_on(self, outcome, policy):
        routed = replace(policy, route=self.ROUTED.route)

        assert self.decide(outcome, "a", policy=routed) == self.decide(outcome, "a", policy=policy)
        assert self.decide(outcome, "a", policy=routed).using is None

    @pytest.mark.parametrize("outcome", [MailerTrouble(), MAILERS_OWN], ids=["mailer", "transient"])
    def test_without_a_route_everything_stays(self, outcome):
        assert self.decide(outcome, "a", policy=RETRY).using is None


class TestBackoff:
    def test_it_doubles_from_thirty_seconds_up_to_four_hours(self):
        minutes = [Backoff().delay_after(attempt, luck=1.0) / timedelta(minutes=1) for attempt in range(1, 12)]

        assert minutes == [0.5, 1, 2, 4, 8, 16, 32, 64, 128, 240, 240]

    @given(
        attempt=st.integers(0, 10**6),
        luck=st.floats(0, 1),
        first=st.timedeltas(timedelta(0), timedelta(days=1)),
        longest=st.timedeltas(timedelta(0), timedelta(days=30)),
    )
    def test_it_stays_between_nothing_and_the_longest(self, attempt, luck, first, longest):
        assert timedelta(0) <= Backoff(first, longest).delay_after(attempt, luck=luck) <= longest
