"""Refusals in a row: what makes one, what ends one, and what it turns the next refusal into."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail_outbox.core.outcomes import (
    REFUSALS_IN_A_ROW,
    Ambiguous,
    Cancelled,
    MailerTrouble,
    Outcome,
    Partial,
    Permanent,
    Sent,
    Throttled,
    Transient,
)
from mail_outbox.core.streaks import MOST_STREAKS, Ended, Streak, follow, matter
from mail_outbox.core.throttle import trouble_in

SENDER = Permanent(code="550", text="5.7.1 not this sender", pattern="sender:a:550")
OTHER = Permanent(code="550", pattern="sender:b:550")
BODY = Permanent(code="422", pattern="http:422:c")
DOWN = Transient(code="disconnected", is_mailers=True)
GREYLISTED = Transient(code="450")


def after(*outcomes: Outcome) -> list[str]:
    """Return the kinds of the outcomes, each of another message, after they have been followed."""
    attempts = [Ended(number, 1, outcome) for number, outcome in enumerate(outcomes)]
    return [str(outcome.kind) for outcome in follow((), attempts)[1]]


@pytest.mark.parametrize(("refusal", "harmless"), [(SENDER, 2), (BODY, 4)])
def test_so_many_alike_in_a_row_are_the_mailers_trouble_and_so_are_those_that_follow(refusal: Outcome, harmless: int):
    assert after(*[refusal] * 8) == [refusal.kind] * harmless + ["mailer"] * (8 - harmless)


@pytest.mark.parametrize("success", [Sent(), Partial()])
def test_a_success_ends_all_streaks(success: Outcome):
    assert "mailer" not in after(SENDER, SENDER, success, SENDER, SENDER, success, SENDER, SENDER)


@pytest.mark.parametrize(
    "other", [OTHER, Permanent(code="550"), Throttled(), MailerTrouble(), Ambiguous(), Cancelled()]
)
def test_what_is_no_success_and_not_alike_ends_nothing(other: Outcome):
    assert after(SENDER, other, SENDER, other, SENDER)[-1] == "mailer"


def test_refusals_that_say_something_of_one_message_only_are_no_streak():
    assert after(*[Permanent(code="550")] * 50, *[GREYLISTED] * 50) == ["permanent"] * 50 + ["transient"] * 50


def test_one_message_that_is_refused_again_and_again_proves_nothing():
    attempts = [Ended(1, number, SENDER) for number in range(1, 9)]

    streaks, outcomes = follow((), attempts)

    assert streaks == (Streak("sender:a:550", ("1",)),)
    assert {outcome.kind for outcome in outcomes} == {"permanent"}


def test_one_message_that_finds_the_mailer_down_again_and_again_says_so():
    _, outcomes = follow((), [Ended(1, number, DOWN) for number in range(1, 6)])

    assert [trouble_in([outcome]) is not None for outcome in outcomes] == [False] * 4 + [True]
    assert {outcome.kind for outcome in outcomes} == {"transient"}, "the attempts count"


def test_the_trouble_says_what_was_refused_and_how_often():
    _, outcomes = follow((), [Ended(number, 1, SENDER) for number in range(3)])

    assert outcomes[-1] == MailerTrouble(
        code=REFUSALS_IN_A_ROW, text="3 different messages in a row: 550 5.7.1 not this sender"
    )


def test_a_streak_goes_on_from_where_others_have_brought_it():
    streaks, _ = follow((), [Ended(1, 1, SENDER), Ended(2, 1, SENDER)])

    streaks, outcomes = follow(streaks, [Ended(3, 1, SENDER)])

    assert outcomes[0].kind == "mailer"
    assert follow(streaks, [Ended(4, 1, SENDER)])[0] == streaks


def test_the_same_attempts_followed_twice_count_once():
    attempts = [Ended(1, 1, SENDER), Ended(2, 1, SENDER), Ended(3, 1, DOWN)]
    streaks, outcomes = follow((), attempts)

    assert follow(streaks, attempts) == (streaks, outcomes)


@pytest.mark.parametrize(
    ("outcome", "is_following", "expected"),
    [
        (Sent(), False, False),
        (Sent(), True, True),
        (SENDER, False, True),
        (DOWN, False, True),
        (GREYLISTED, True, False),
        (Permanent(code="550"), True, False),
    ],
)
def test_only_what_can_change_something_costs_a_look(*, outcome: Outcome, is_following: bool, expected: bool):
    assert matter([outcome], is_following=is_following) is expected


PATTERNS = st.integers(0, 40).map(lambda number: Permanent(code="400", pattern=f"http:400:{number}"))


@given(st.lists(st.one_of(PATTERNS, st.just(SENDER), st.just(DOWN)), max_size=100))
def test_no_more_is_kept_than_is_needed(outcomes: list[Outcome]):
    streaks, _ = follow((), [Ended(number, 1, outcome) for number, outcome in enumerate(outcomes)])

    assert len(streaks) <= MOST_STREAKS
    assert all(len(streak.marks) <= streak.limit for streak in streaks)


def test_many_different_refusals_do_not_hide_the_one_that_repeats():
    different = [Permanent(code="400", pattern=f"http:400:{number}") for number in range(100)]
    mixed = [each for refusal in different for each in (refusal, SENDER)]

    assert after(*mixed).count("mailer") == 98
