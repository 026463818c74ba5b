"""When the queue of a mailer is looked at again."""

from datetime import timedelta

import pytest

from mail_outbox import outbox, signals
from mail_outbox.drain import Engine
from mail_outbox.drain.looks import APART, Looks
from mail_outbox.models import OutboxEntry
from tests.fakes import Provider
from tests.support import a_message

MAILER = "default"


def after_a_look(*, found: int, room: int = 8, is_paced: bool = True) -> Looks:
    """Return what is known after a look for so many that has found so many."""
    looks = Looks()
    looks.note(MAILER, found=found, room=room, is_paced=is_paced)
    return looks


class TestLooks:
    def test_a_queue_that_held_too_little_is_left_alone_for_a_moment(self):
        wait = after_a_look(found=2).seconds_until_next(MAILER)

        assert wait is not None
        assert wait <= APART

    @pytest.mark.parametrize("found", [0, 8])
    def test_one_that_held_nothing_or_enough_is_not_waited_for(self, found: int):
        assert after_a_look(found=found).seconds_until_next(MAILER) is None

    def test_nobody_waits_who_only_wants_the_queue_empty(self):
        assert after_a_look(found=2, is_paced=False).seconds_until_next(MAILER) is None

    def test_where_there_was_nothing_a_glance_comes_first(self):
        assert [after_a_look(found=found).was_vain(MAILER) for found in (0, 1)] == [True, False]

    def test_all_can_be_forgotten(self):
        looks = after_a_look(found=0)
        looks.forget()

        assert not looks.was_vain(MAILER)


@pytest.mark.django_db(transaction=True)
def test_a_slice_ends_only_when_nothing_has_come_for_a_moment(provider: Provider):
    def enqueue_another(sender: object, *, entry: OutboxEntry, **_: object) -> None:
        if entry.subject == "one":
            outbox.enqueue(a_message("two"))

    engine = Engine("default")
    outbox.enqueue(a_message("one"))
    signals.entry_settled.connect(enqueue_another)
    try:
        result = engine.run(slice_length=timedelta(seconds=60))
    finally:
        signals.entry_settled.disconnect(enqueue_another)
        engine.stop()

    assert (result.sent, result.is_work_left) == (2, False)
