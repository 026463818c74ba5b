"""Rates and slots: how much may leave in which time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail_outbox.core.rates import (
    FARTHEST,
    HORIZON,
    Rate,
    assign_slots,
    lateness_allowed,
    next_slot,
    parse_rate,
    slots_within,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "rate"),
        [
            ("14/s", Rate(14, SECOND)),
            ("100/m", Rate(100, timedelta(minutes=1))),
            ("5000/h", Rate(5000, timedelta(hours=1))),
            ("50000/d", Rate(50000, timedelta(days=1))),
            ("14 recipients/s", Rate(14, SECOND, per_recipient=True)),
        ],
    )
    def test_a_rate_is_so_many_per_period(self, text, rate):
        assert parse_rate(text) == rate

    @pytest.mark.parametrize("text", ["", "14", "0/s", "14/w", "-1/s", "1.5/s", "14 /s", "14 mails/s", "14/s ", "٣/s"])
    def test_anything_else_is_refused_with_an_example(self, text):
        with pytest.raises(ValueError, match="14/s"):
            parse_rate(text)


class TestInterval:
    def test_slots_lie_a_little_wider_apart_than_the_rate_demands(self):
        assert parse_rate("20/s").interval(1.0) == timedelta(milliseconds=50.25)

    def test_half_the_allowance_is_twice_the_interval(self):
        assert parse_rate("20/s").interval(0.5) == timedelta(milliseconds=100.5)

    def test_a_fraction_of_a_microsecond_is_rounded_up(self):
        assert parse_rate("1000000/s").interval(1.0) == timedelta(microseconds=2)


class TestNextSlot:
    INTERVAL = timedelta(seconds=6)

    def after(self, reserved_until: datetime | None, *, per_recipient: bool = False) -> timedelta:
        return next_slot(reserved_until, now=NOW, interval=self.INTERVAL, per_recipient=per_recipient) - NOW

    def test_the_first_of_all_opens_at_once(self):
        assert self.after(None) == timedelta(0)

    def test_what_was_not_used_is_gone(self):
        assert self.after(NOW - timedelta(days=1)) == timedelta(0)

    def test_it_comes_after_all_that_are_taken(self):
        assert self.after(NOW + 3 * SECOND) == 3 * SECOND

    def test_what_a_lower_rate_has_left_behind_does_not_block_a_higher_one(self):
        assert self.after(NOW + timedelta(days=1)) == FARTHEST + self.INTERVAL

    def test_a_debt_of_many_recipients_is_paid_in_full(self):
        assert self.after(NOW + timedelta(minutes=2), per_recipient=True) == timedelta(minutes=2)


class TestAssigning:
    INTERVAL = timedelta(milliseconds=300)

    def opening(self, costs: list[int], *, first: datetime = NOW) -> list[float]:
        slots = assign_slots(first, costs, now=NOW, interval=self.INTERVAL)
        return [(slot.opens_at - NOW) / SECOND for slot in slots]

    def test_each_message_gets_the_next_slot_as_far_as_the_horizon(self):
        assert self.opening([1] * 10) == [0, 0.3, 0.6, 0.9]
        assert slots_within(NOW, now=NOW, interval=self.INTERVAL) == 4

    def test_many_recipients_push_off_what_is_behind_them(self):
        assert self.opening([1, 2, 1, 1]) == [0, 0.3, 0.9]

    def test_more_recipients_than_ever_fit_go_all_the_same(self):
        assert self.opening([1000, 1]) == [0]
        (slot,) = assign_slots(NOW, [1000], now=NOW, interval=self.INTERVAL)
        assert slot.next_at == NOW + 1000 * self.INTERVAL

    def test_past_the_horizon_there_is_none(self):
        far = NOW + HORIZON + timedelta(microseconds=1)

        assert self.opening([1], first=far) == []
        assert slots_within(far, now=NOW, interval=self.INTERVAL) == 0


def test_a_slot_may_be_used_late_by_half_an_interval_but_at_least_by_what_a_machine_takes_to_wake_up():
    assert lateness_allowed(timedelta(seconds=6)) == timedelta(seconds=3)
    assert lateness_allowed(timedelta(milliseconds=2)) == timedelta(milliseconds=35)


arrivals = st.lists(
    st.tuples(
        st.integers(0, 3_000_000),  # microseconds until somebody asks
        st.lists(st.integers(1, 5), min_size=1, max_size=30),  # what is queued then, by recipients
        st.sampled_from([1.0, 0.5, 0.3]),
    ),
    min_size=1,
    max_size=30,
)


@given(st.sampled_from(["20/s", "1/s", "10/m", "14 recipients/s", "3000/s"]), arrivals)
def test_no_window_holds_more_than_the_rate_and_one(text, arrivals):
    rate = parse_rate(text)
    now, reserved_until = NOW, None
    slots: list[tuple[datetime, int]] = []
    for microseconds, costs, allowance in arrivals:
        now += timedelta(microseconds=microseconds)
        interval = rate.interval(allowance)
        first = next_slot(reserved_until, now=now, interval=interval, per_recipient=rate.per_recipient)
        costs = costs if rate.per_recipient else [1] * len(costs)
        found = assign_slots(first, costs, now=now, interval=interval)
        slots += [(slot.opens_at, cost) for slot, cost in zip(found, costs, strict=False)]
        reserved_until = found[-1].next_at if found else reserved_until

    for index, (begin, _) in enumerate(slots):
        spent = 0
        for end, cost in slots[index:]:
            # Whatever came before the last message of the window has been paid for when that one leaves.
            assert spent <= (end - begin) / rate.period * rate.count
            spent += cost


@given(st.sampled_from(["20/s", "700/s", "45/m"]), st.lists(st.integers(1, 900), min_size=5, max_size=60))
def test_whoever_asks_often_enough_loses_no_slot(text, waits):
    rate = parse_rate(text)
    interval = rate.interval(1.0)
    now, reserved_until, count = NOW, None, 0
    for milliseconds in waits:
        first = next_slot(reserved_until, now=now, interval=interval, per_recipient=False)
        found = assign_slots(first, [1] * 10_000, now=now, interval=interval)
        count += len(found)
        reserved_until = found[-1].next_at if found else reserved_until
        now += min(timedelta(milliseconds=milliseconds), HORIZON)

    assert reserved_until == NOW + count * interval
