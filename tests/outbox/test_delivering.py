"""drain and send_now: delivery in this process."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from mail_outbox import outbox, signals, transitions
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, ConnectionShare, MailerState, OutboxEntry
from tests.fakes import BAD_LOGIN, REFUSED, TRY_LATER
from tests.support import a_message, scripted

pytestmark = pytest.mark.django_db


class TestDrain:
    def test_it_delivers_all_that_is_due_and_counts_it(self, provider):
        provider.will(REFUSED, TRY_LATER)
        outbox.enqueue_many(a_message(str(number)) for number in range(30))

        result = outbox.drain()

        assert (result.sent, result.permanent, result.transient) == (28, 1, 1)
        assert result.attempts == 30
        assert not result.is_work_left
        assert outbox.drain().attempts == 0

    def test_a_limit_is_kept(self, provider):
        outbox.enqueue_many(a_message() for _ in range(5))

        result = outbox.drain(limit=3)

        assert (result.sent, result.is_work_left) == (3, True)
        assert outbox.stats().states["queued"] == 2

    def test_one_mailer_can_be_named(self, providers):
        for alias in ("default", "bulk"):
            outbox.enqueue(a_message(alias), using=alias)

        outbox.drain(using="bulk")

        assert providers["bulk"].subjects == ["bulk"]
        assert providers["default"].subjects == []

    def test_a_mailer_that_is_not_there_is_refused(self):
        with pytest.raises(outbox.UnknownMailer, match=r"Did you mean 'bulk'\?"):
            outbox.drain(using="blk")

    @pytest.mark.parametrize("limit", [0, -1, "default", 1.5])
    def test_a_limit_of_nothing_is_refused(self, limit):
        with pytest.raises(outbox.InvalidOption, match="limit must be a whole number"):
            outbox.drain(limit)


class TestSendNow:
    def test_the_entry_says_what_became_of_it(self, provider):
        entry = outbox.send_now(a_message("now"))

        assert (entry.state, entry.attempts, entry.committed) == (State.SENT, 1, True)
        assert provider.subjects == ["now"]
        assert Attempt.objects.get().kind == "sent"

    def test_a_refusal_is_an_answer_and_no_exception(self, provider):
        provider.will(REFUSED)

        entry = outbox.send_now(a_message())

        assert (entry.state, entry.outcome_code) == (State.FAILED, "550")

    def test_what_it_leaves_is_retried_by_the_workers(self, provider):
        provider.will(TRY_LATER)

        assert outbox.send_now(a_message()).state == State.SCHEDULED

    def test_a_mailer_that_is_paused_is_said_so_and_nothing_is_written(self, provider):
        outbox.pause("default")

        with pytest.raises(outbox.OutboxPaused, match="'default'"):
            outbox.send_now(a_message())

        assert not OutboxEntry.objects.exists()

    def test_a_mailer_in_trouble_counts_as_paused(self, provider):
        provider.will(BAD_LOGIN)
        assert outbox.send_now(a_message()).state == State.QUEUED

        with pytest.raises(outbox.OutboxPaused):
            outbox.send_now(a_message())

    def test_a_mailer_that_has_just_recovered_is_used(self, provider):
        MailerState.objects.create(alias="default", recovered_at=datetime.now(UTC))

        assert outbox.send_now(a_message()).state == State.SENT

    def test_it_waits_for_its_slot(self):
        with scripted("default", MAILER_OPTIONS={"default": {"rate": "4/s"}}) as providers:
            moments = []
            providers["default"].will_always(lambda message: moments.append(time.monotonic()))

            entries = [outbox.send_now(a_message()) for _ in range(3)]

        assert {entry.state for entry in entries} == {State.SENT}
        assert moments[2] - moments[0] > 0.45

    def test_without_a_slot_in_time_it_says_so_and_writes_nothing(self):
        with scripted("default", MAILER_OPTIONS={"default": {"rate": "1/h"}}):
            outbox.send_now(a_message())

            with pytest.raises(outbox.OutboxPaused, match="no slot free"):
                outbox.send_now(a_message())

        assert OutboxEntry.objects.count() == 1

    def test_without_a_connection_in_time_it_says_so_and_writes_nothing(self):
        options = {"default": {"max_connections": 1, "deadline": timedelta(seconds=0.2)}}
        with scripted("default", MAILER_OPTIONS=options):
            length = timedelta(minutes=1)
            transitions.take_share("default", worker="w", wanted=1, limit=1, length=length, database="default")

            with pytest.raises(outbox.OutboxPaused, match="no connection"):
                outbox.send_now(a_message())

        assert not OutboxEntry.objects.exists()

    def test_it_gives_its_connection_back(self):
        with scripted("default", MAILER_OPTIONS={"default": {"max_connections": 1}}):
            assert [outbox.send_now(a_message()).state for _ in range(2)] == [State.SENT] * 2

        assert not ConnectionShare.objects.exists()

    def test_what_was_kept_past_its_lease_is_not_sent_but_goes_back(self):
        def wait_until_it_is_over(entry: OutboxEntry, **_: object) -> None:
            give_up_at, pause = time.monotonic() + 30, threading.Event()
            while not OutboxEntry.objects.stuck().exists() and time.monotonic() < give_up_at:
                pause.wait(0.02)

        signals.entry_enqueued.connect(wait_until_it_is_over)
        try:
            # The lease is never shorter than the deadline and a second.
            options = {"default": {"deadline": timedelta(seconds=0.2)}}
            with scripted("default", LEASE=timedelta(0), MAILER_OPTIONS=options) as providers:
                entry = outbox.send_now(a_message())
        finally:
            signals.entry_enqueued.disconnect(wait_until_it_is_over)

        assert providers["default"].accepted == []
        assert (entry.state, entry.attempts) == (State.QUEUED, 0)

    def test_a_later_moment_is_refused(self):
        with pytest.raises(TypeError, match="send_at"):
            outbox.send_now(a_message(), send_at=None)  # type: ignore[call-arg]


@pytest.mark.django_db(transaction=True)
class TestInsideATransaction:
    @pytest.mark.parametrize("verb", [lambda: outbox.send_now(a_message()), outbox.drain])
    def test_what_talks_to_a_mailer_refuses(self, verb):
        with transaction.atomic(), pytest.raises(outbox.InTransaction, match=r"outside atomic\(\)"):
            verb()

        assert not OutboxEntry.objects.exists()
