"""The checker itself: a good history passes, and each way to break a promise is seen."""

from dataclasses import replace
from typing import Any

import pytest

from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from tests.totalqueue.checker import Accept, Change, Evidence, Fate, Row, Verdict, check, fates_of

COPY = Accept(key="a", recipient="a@example.com", message_id="<a@example.com>", digest="1")
SENT = Row(key="a", state=State.SENT, kinds=(Kind.SENT,), accepted=frozenset({"a@example.com"}))


def judge(**changes: Any) -> Verdict:
    """Check the history of one mail that was committed and sent, with some of it changed."""
    good = Evidence(fates={"a": Fate.COMMITTED}, accepts=[COPY], rows=[SENT])
    return check(replace(good, **changes))


def test_one_mail_that_was_committed_and_sent_breaks_nothing():
    assert judge().is_valid


def test_a_committed_mail_that_never_came_is_lost():
    assert judge(accepts=[], rows=[]).lost == ("a",)


def test_a_committed_mail_that_was_set_aside_without_a_reason_is_lost():
    assert judge(accepts=[], rows=[Row(key="a", state=State.HELD)]).lost == ("a",)


@pytest.mark.parametrize("state", [State.HELD, State.FAILED, State.EXPIRED, State.CANCELLED])
def test_a_recorded_reason_excuses(state: State):
    assert judge(accepts=[], rows=[Row(key="a", state=state, reason="poison")]).is_valid


def test_a_mail_that_was_rolled_back_is_unexpected():
    assert judge(fates={"a": Fate.ROLLED_BACK}).unexpected == ("a",)


def test_a_row_that_was_rolled_back_is_unexpected_though_nothing_went_out():
    row = Row(key="a", state=State.HELD, reason="ambiguous")
    assert judge(fates={"a": Fate.ROLLED_BACK}, accepts=[], rows=[row]).unexpected == ("a",)


def test_a_mail_that_nobody_tried_to_enqueue_is_unexpected():
    assert judge(fates={}).unexpected == ("a",)


def test_a_mail_whose_commit_was_not_answered_may_come_or_not():
    unknown = {"a": Fate.UNKNOWN}

    assert judge(fates=unknown).is_valid
    assert judge(fates=unknown, accepts=[], rows=[]).is_valid


def test_a_second_copy_needs_an_ambiguous_attempt():
    explained = replace(SENT, kinds=(Kind.AMBIGUOUS, Kind.SENT), attempts=2)

    assert judge(accepts=[COPY, COPY]).unexplained == ("a",)
    assert judge(accepts=[COPY, COPY], rows=[explained]).is_valid
    assert judge(accepts=[COPY, COPY, COPY], rows=[explained]).unexplained == ("a",)


def test_under_hold_nothing_explains_a_second_copy():
    held = replace(SENT, on_ambiguous="hold", kinds=(Kind.AMBIGUOUS, Kind.SENT))

    assert judge(rows=[held]).is_valid
    assert judge(accepts=[COPY, COPY], rows=[held]).unexplained == ("a",)


def test_whoever_sends_it_once_more_by_hand_explains_one_more_copy():
    by_hand = replace(SENT, on_ambiguous="hold", put_back=1)

    assert judge(accepts=[COPY, COPY], rows=[by_hand]).is_valid
    assert judge(accepts=[COPY, COPY, COPY], rows=[by_hand]).unexplained == ("a",)


def test_what_a_person_vouches_for_needs_no_copy():
    assert judge(accepts=[], rows=[replace(SENT, is_vouched_for=True)]).is_valid


def test_copies_to_two_recipients_are_no_duplicates():
    assert judge(accepts=[COPY, replace(COPY, recipient="b@example.com")]).is_valid


def test_an_entry_that_says_sent_must_have_been_accepted():
    assert judge(accepts=[], rows=[replace(SENT, accepted=frozenset())]).unfounded == ("a",)


def test_a_recipient_who_is_said_to_have_it_must_have_it():
    both = replace(SENT, accepted=frozenset({"a@example.com", "b@example.com"}))
    assert judge(rows=[both]).unfounded == ("a",)


@pytest.mark.parametrize("change", [{"message_id": "<b@example.com>"}, {"digest": "2"}])
def test_copies_must_not_differ(change: dict[str, str]):
    explained = replace(SENT, kinds=(Kind.AMBIGUOUS, Kind.SENT))
    assert judge(accepts=[COPY, replace(COPY, **change)], rows=[explained]).broken == {"different": ("a",)}


def test_two_providers_may_write_the_same_mail_in_two_ways():
    explained = replace(SENT, kinds=(Kind.AMBIGUOUS, Kind.SENT))
    assert judge(accepts=[COPY, replace(COPY, provider="other", digest="2")], rows=[explained]).is_valid


def test_more_attempts_than_allowed_are_seen():
    assert judge(rows=[replace(SENT, attempts=4, max_attempts=3)]).overtried == ("a",)


def test_more_ambiguous_attempts_than_are_repeated_are_seen():
    assert judge(rows=[replace(SENT, kinds=(Kind.AMBIGUOUS,) * 4)]).overtried == ("a",)


def test_a_change_that_the_table_of_states_does_not_have_is_forbidden():
    back = Change(key="a", before=State.SENT, after=State.SCHEDULED)
    allowed = Change(key="a", before=State.QUEUED, after=State.SENDING)

    assert judge(changes=[allowed]).is_valid
    assert judge(changes=[allowed, back]).forbidden == ("a",)


def test_a_success_that_was_written_must_stand():
    held = replace(SENT, state=State.HELD, reason="ambiguous")

    assert judge(settled=frozenset({"a"})).is_valid
    assert judge(rows=[held], settled=frozenset({"a"})).forgotten == ("a",)


@pytest.mark.parametrize("state", [State.SCHEDULED, State.QUEUED, State.SENDING])
def test_what_is_not_finished_after_healing_is_seen(state: State):
    assert judge(rows=[replace(SENT, state=state)]).unfinished == ("a",)


def test_a_claim_that_is_left_on_a_finished_entry_is_seen():
    assert judge(rows=[replace(SENT, has_claim=True)]).unfinished == ("a",)


def test_duplicates_are_counted_whether_explained_or_not():
    assert judge(accepts=[COPY, COPY, COPY]).counts["duplicates"] == 2


def test_what_was_held_and_had_arrived_is_counted():
    held = Row(key="a", state=State.HELD, reason="ambiguous", kinds=(Kind.AMBIGUOUS,))
    assert judge(rows=[held]).counts | {"held": 1, "held_and_delivered": 1, "ambiguous": 1} == judge(rows=[held]).counts


def a_history(*events: str) -> list[dict[str, str]]:
    """Return the events of one key."""
    return [{"event": event, "key": "a"} for event in events]


@pytest.mark.parametrize(
    ("events", "fate"),
    [
        (["invoke", "ok"], Fate.COMMITTED),
        (["invoke", "fail"], Fate.ROLLED_BACK),
        (["invoke", "info"], Fate.UNKNOWN),
        (["invoke"], Fate.UNKNOWN),  # the caller was killed
        (["invoke", "info", "invoke", "ok"], Fate.COMMITTED),  # the same key again
        (["invoke", "info", "invoke", "fail"], Fate.UNKNOWN),
        (["invoke", "fail", "invoke"], Fate.UNKNOWN),
    ],
    ids=" ".join,
)
def test_only_the_commit_itself_and_a_sure_rollback_are_certain(events: list[str], fate: Fate):
    assert fates_of(a_history(*events)) == {"a": fate}
