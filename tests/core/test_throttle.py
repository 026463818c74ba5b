"""Pauses after trouble with a mailer, and the ramp after them."""

from datetime import timedelta

import pytest

from mail_outbox.core.outcomes import MailerTrouble, Permanent, Sent, Throttled, Transient
from mail_outbox.core.throttle import (
    SLOWEST,
    Trouble,
    allowance_after,
    room_after_recovery,
    senders_allowed,
    slowed,
    trouble_in,
)


@pytest.mark.parametrize(
    ("outcome", "strikes", "seconds"),
    [
        (Throttled(), 0, 1),
        (Throttled(), 3, 8),
        (Throttled(retry_after=timedelta(seconds=90)), 0, 90),
        (Throttled(retry_after=timedelta(days=2)), 0, 3600),
        (Throttled(), 30, 3600),
        (MailerTrouble(), 0, 30),
        (MailerTrouble(), 2, 120),
        (MailerTrouble(), 9, 900),
    ],
)
def test_the_pause_grows_with_the_strikes_and_honours_the_provider(outcome, strikes, seconds):
    assert Trouble(outcome).pause_after(strikes, luck=1.0) == timedelta(seconds=seconds)


def test_a_fault_outweighs_a_request_to_slow_down():
    trouble = trouble_in([Throttled(), MailerTrouble(code="connect"), Sent()])

    assert trouble is not None
    assert trouble.outcome.code == "connect"


def test_a_message_that_is_refused_is_no_trouble_with_the_mailer():
    assert trouble_in([Permanent(), Transient(), Sent()]) is None


@pytest.mark.parametrize(("seconds", "room"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 8), (10**9, 8)])
def test_a_recovered_mailer_is_ramped_up(seconds, room):
    assert room_after_recovery(8, timedelta(seconds=seconds)) == room


def test_throttling_halves_what_a_mailer_may_do_but_never_stops_it():
    allowance = 1.0
    seen = [allowance := slowed(allowance) for _ in range(10)]

    assert seen[:3] == [0.5, 0.25, 0.125]
    assert seen[-1] == SLOWEST


@pytest.mark.parametrize(
    ("allowance", "minutes", "then"),
    [(0.5, 0, 0.5), (0.5, 1, 0.6), (0.5, 5, 1.0), (SLOWEST, 10, 1.0), (0.5, 10**6, 1.0), (0.5, -1, 0.5)],
)
def test_it_grows_back_evenly_with_time(allowance, minutes, then):
    assert allowance_after(allowance, timedelta(minutes=minutes)) == pytest.approx(then)


@pytest.mark.parametrize(("allowance", "senders"), [(1.0, 8), (0.5, 4), (0.3, 2), (SLOWEST, 1)])
def test_without_a_rate_it_is_the_senders_that_become_fewer(allowance, senders):
    assert senders_allowed(8, allowance) == senders
