"""Retention: what was sent has an age of its own, everything else that has ended shares one."""

from datetime import timedelta

import pytest

from mail_outbox.core.retention import Retention
from mail_outbox.core.states import FINISHED, State

AGES = Retention(sent=timedelta(days=1), failed=timedelta(days=2), content=None)


def test_what_was_sent_has_an_age_of_its_own():
    assert AGES.of(State.SENT) == timedelta(days=1)


@pytest.mark.parametrize("state", sorted(FINISHED - {State.SENT}))
def test_everything_that_ended_without_success_shares_one(state: State):
    assert AGES.of(state) == timedelta(days=2)
