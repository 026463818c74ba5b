"""Workers that are refused at the same moment count together."""

import pytest

from mail_outbox import transitions
from mail_outbox.core.outcomes import Kind, Permanent
from mail_outbox.core.streaks import Ended
from mail_outbox.models import MailerState
from tests.races.parallel import at_once

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

REFUSED = Permanent(code="550", pattern="sender:a:550")


def test_of_eight_that_are_refused_at_once_two_fail():
    def be_refused(entry: int) -> Kind:
        [outcome] = transitions.follow_streaks("default", [Ended(entry, 1, REFUSED)], database="default")
        return outcome.kind

    kinds = at_once(*[lambda entry=entry: be_refused(entry) for entry in range(8)])

    assert sorted(kinds) == [Kind.MAILER] * 6 + [Kind.PERMANENT] * 2
    [[_, marks]] = MailerState.objects.get().streaks
    assert len(marks) == 3
