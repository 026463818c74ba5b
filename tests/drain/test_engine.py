"""The engine with a scripted provider: trouble, fairness, stopping, stuck senders."""

import threading
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection

from mail_outbox import outbox, signals, transitions
from mail_outbox.core.outcomes import Sent
from mail_outbox.core.states import State
from mail_outbox.drain import Engine
from mail_outbox.drain.reading import read_jobs
from mail_outbox.drain.work import perform
from mail_outbox.models import Attempt, EntryContent, MailerState, OutboxEntry, Worker
from tests.fakes import BAD_LOGIN, NOBODY_KNOWS, REFUSED, SLOW_DOWN, TRY_LATER, hang_until, wait_for
from tests.support import a_message, age, scripted

pytestmark = pytest.mark.django_db

PAST = "2020-01-01T00:00:00Z"


@pytest.fixture
def engine():
    engine = Engine("default")
    yield engine
    engine.stop()


def state_of(entry: OutboxEntry) -> str:
    entry.refresh_from_db()
    return entry.state


class TestOutcomes:
    @pytest.mark.parametrize(
        ("action", "state", "attempts"),
        [
            (REFUSED, State.FAILED, 1),
            (TRY_LATER, State.SCHEDULED, 1),
            (NOBODY_KNOWS, State.SCHEDULED, 1),
            (SLOW_DOWN, State.QUEUED, 0),
            (BAD_LOGIN, State.QUEUED, 0),
            (lambda message: 0, State.CANCELLED, 0),
        ],
    )
    def test_what_the_provider_does_decides_what_becomes_of_the_entry(self, provider, action, state, attempts):
        provider.will(action)
        entry = outbox.enqueue(a_message())

        outbox.drain()

        entry.refresh_from_db()
        assert (entry.state, entry.attempts) == (state, attempts)
        assert Attempt.objects.count() == 1

    def test_a_backend_that_exits_takes_nobody_with_it(self, provider):
        def leave(message):
            raise SystemExit

        provider.will(leave)
        entries = outbox.enqueue_many(a_message(str(number)) for number in range(20))

        outbox.drain()

        states = sorted(state_of(entry) for entry in entries)
        assert states == [State.SCHEDULED] + [State.SENT] * 19

    def test_a_bad_message_fails_alone(self, provider):
        provider.will(REFUSED)
        outbox.enqueue_many(a_message(str(number)) for number in range(20))

        result = outbox.drain()

        assert (result.sent, result.permanent) == (19, 1)

    def test_content_that_cannot_be_read_is_held_with_the_reason(self, provider):
        newer, damaged, gone, fine = outbox.enqueue_many(a_message(str(number)) for number in range(4))
        EntryContent.objects.filter(entry=newer).update(payload={"version": 99})
        EntryContent.objects.filter(entry=damaged).update(payload=["nonsense", 10**30])
        EntryContent.objects.filter(entry=gone).delete()

        result = outbox.drain()

        assert [state_of(entry) for entry in (newer, damaged, gone, fine)] == ["held", "held", "held", "sent"]
        assert all(entry.state_reason.startswith("unreadable: ") for entry in (newer, damaged, gone))
        assert result.held == 3

    def test_content_that_cannot_be_read_holds_nobody_up_where_somebody_is_suppressed(self, provider):
        outbox.suppress("nobody@example.com")
        damaged, fine = outbox.enqueue_many(a_message() for _ in range(2))
        EntryContent.objects.filter(entry=damaged).update(payload=["nonsense"])

        outbox.drain()

        assert [state_of(entry) for entry in (damaged, fine)] == ["held", "sent"]

    def test_attempts_used_up_end_it(self, provider):
        provider.will_always(TRY_LATER)
        entry = outbox.enqueue(a_message(), max_attempts=2)
        for _ in range(3):
            outbox.drain()
            OutboxEntry.objects.filter(state=State.SCHEDULED).update(due_at=PAST)

        entry.refresh_from_db()
        assert (entry.state, entry.state_reason, entry.attempts) == (State.FAILED, "attempts used up", 2)

    def test_what_is_seventy_two_hours_old_is_given_up(self, provider):
        provider.will_always(TRY_LATER)
        entry = outbox.enqueue(a_message())
        age(entry, first_due_at=timedelta(hours=-73))

        outbox.drain()

        entry.refresh_from_db()
        assert (entry.state, entry.state_reason) == (State.FAILED, "too old")

    def test_the_second_attempt_is_byte_for_byte_the_first(self, provider):
        seen = []

        def look(message):
            seen.append(message.message().as_bytes())
            if len(seen) == 1:
                raise TRY_LATER

        provider.will_always(look)
        message = a_message()
        message.attach("a.pdf", b"%PDF", "application/pdf")
        entry = outbox.enqueue(message)
        outbox.drain()
        OutboxEntry.objects.update(due_at=PAST)
        outbox.drain()

        assert len(seen) == 2
        assert seen[0] == seen[1]
        assert f"Message-ID: {entry.message_id}".encode() in seen[0]


class TestMailerTrouble:
    def test_it_pauses_the_mailer_burns_no_attempt_and_spares_the_others(self, providers):
        providers["bulk"].will_always(BAD_LOGIN)
        outbox.enqueue_many((a_message() for _ in range(50)), using="bulk")
        outbox.enqueue_many(a_message() for _ in range(50))

        result = outbox.drain()

        assert (result.sent, result.mailer) == (50, 1)
        assert set(OutboxEntry.objects.filter(using="bulk").values_list("state", "attempts")) == {("queued", 0)}
        assert MailerState.objects.get(alias="bulk").strikes == 1
        assert not result.is_work_left

    def test_after_the_rest_one_probe_goes_out_and_no_more(self, provider):
        provider.will_always(BAD_LOGIN)
        outbox.enqueue_many(a_message() for _ in range(20))
        outbox.drain()
        MailerState.objects.update(broken_until=PAST)

        result = outbox.drain()

        assert result.mailer == 1
        state = MailerState.objects.get()
        assert state.strikes == 2
        assert "535" in state.broken_reason

    def test_a_probe_that_gets_through_opens_the_way_again(self, provider):
        provider.will(BAD_LOGIN)
        outbox.enqueue_many(a_message(str(number)) for number in range(12))
        outbox.drain()
        MailerState.objects.update(broken_until=PAST)

        result = outbox.drain()

        assert result.sent == 12
        assert MailerState.objects.get().strikes == 0

    def test_a_probe_with_nothing_to_send_is_given_back(self, provider):
        provider.will(BAD_LOGIN)
        entry = outbox.enqueue(a_message())
        outbox.drain()
        outbox.cancel(entry)
        MailerState.objects.update(broken_until=PAST)

        outbox.drain()
        outbox.enqueue(a_message())
        result = outbox.drain()

        assert result.sent == 1

    def test_a_request_to_slow_down_keeps_the_place_in_line(self, provider):
        provider.will(SLOW_DOWN)
        with scripted_one_sender() as providers:
            providers["default"].will(SLOW_DOWN)
            first, second = outbox.enqueue_many(a_message(subject) for subject in ("first", "second"))
            outbox.drain()
            MailerState.objects.update(broken_until=PAST)
            outbox.drain()

            assert providers["default"].subjects == ["first", "second"]
            assert state_of(first) == state_of(second) == State.SENT

    def test_one_message_that_throttles_everything_lets_the_others_through_in_the_end(self, provider):
        def refuse_poison(message):
            if message.subject == "poison":
                raise SLOW_DOWN

        provider.will_always(refuse_poison)
        outbox.enqueue(a_message("poison"))
        outbox.enqueue_many(a_message(str(number)) for number in range(20))
        for _ in range(6):
            outbox.drain()
            MailerState.objects.update(broken_until=PAST)

        assert len(provider.accepted) == 20

    def test_a_short_rest_is_waited_for_inside_the_slice(self, provider, engine):
        provider.will(SLOW_DOWN)
        outbox.enqueue_many(a_message(str(number)) for number in range(2))

        result = engine.run(slice_length=timedelta(seconds=5))

        assert (result.sent, result.throttled) == (2, 1)

    def test_a_message_class_that_is_gone_is_trouble_with_the_settings_and_no_message_is_to_blame(
        self, provider, settings
    ):
        entry = outbox.enqueue(a_message())
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "MESSAGE_CLASSES": ["gone.Message"]}

        result = outbox.drain()

        assert (result.mailer, state_of(entry)) == (1, State.QUEUED)
        assert "MESSAGE_CLASSES" in MailerState.objects.get().broken_reason


def scripted_one_sender(*names, **outbox_options):
    return scripted(
        *(names or ("default",)), MAILER_OPTIONS={"default": {"concurrency": 1, **outbox_options.pop("options", {})}}
    )


class TestFairness:
    def test_a_one_off_overtakes_a_bulk_run(self):
        with scripted_one_sender() as providers:
            outbox.enqueue_many((a_message("bulk") for _ in range(30)), priority=outbox.LOW)
            outbox.enqueue(a_message("one-off"))

            outbox.drain()

            assert providers["default"].subjects[0] == "one-off"

    def test_nothing_starves(self):
        with scripted_one_sender() as providers:
            age(outbox.enqueue(a_message("low"), priority=-100), due_at=timedelta(hours=-1))
            outbox.enqueue_many((a_message("high") for _ in range(50)), priority=100)

            outbox.drain()

            assert 0 < providers["default"].subjects.index("low") <= 10

    def test_a_mailer_that_hangs_keeps_no_other_waiting(self, providers):
        is_over = threading.Event()
        providers["bulk"].will_always(wait_for(is_over))
        outbox.enqueue_many((a_message() for _ in range(20)), using="bulk")
        outbox.enqueue_many(a_message() for _ in range(100))
        signals.entry_settled.connect(
            open_when := lambda entry, **_: is_over.set() if len(providers["default"].accepted) == 100 else None
        )
        try:
            result = outbox.drain()
        finally:
            signals.entry_settled.disconnect(open_when)

        assert is_over.is_set()
        assert result.sent == 120


class TestHousekeeping:
    def test_more_than_a_batch_of_due_entries_is_promoted_in_one_drain(self, provider, monkeypatch):
        entries = outbox.enqueue_many((a_message() for _ in range(1100)), send_at=timedelta(hours=1))
        OutboxEntry.objects.update(due_at=PAST)

        result = outbox.drain()

        assert (result.promoted, result.sent) == (len(entries), len(entries))

    def test_any_number_of_expired_entries_hides_no_good_one(self, provider):
        outbox.enqueue_many((a_message("late") for _ in range(1100)), expires_at=timedelta(hours=1))
        OutboxEntry.objects.update(expires_at=PAST)
        outbox.enqueue(a_message("good"))

        outbox.drain()

        assert provider.subjects == ["good"]
        assert OutboxEntry.objects.filter(state=State.EXPIRED).count() == 1100


class TestStopping:
    def test_a_stop_finishes_what_is_being_sent_and_claims_nothing_more(self, provider, engine):
        def stop(message):
            engine.stop_requested.set()

        provider.will(stop)
        outbox.enqueue_many(a_message() for _ in range(50))

        result = engine.run()

        assert 1 <= result.sent <= 8
        assert not OutboxEntry.objects.filter(state=State.SENDING).exists()
        assert result.is_work_left

    def test_a_slice_ends_and_says_that_work_is_left(self, provider, engine):
        outbox.enqueue_many(a_message() for _ in range(50))

        result = engine.run(slice_length=timedelta(0))

        assert result.attempts == 0
        assert result.is_work_left

    def test_past_the_slice_housekeeping_does_not_go_on_by_itself(self, provider, engine):
        outbox.enqueue_many((a_message() for _ in range(2100)), send_at=timedelta(hours=1))
        OutboxEntry.objects.update(due_at=PAST)

        result = engine.run(slice_length=timedelta(0))

        assert result.promoted == 1000
        assert result.is_work_left

    def test_past_the_slice_the_others_are_served_while_a_slow_mailer_is_waited_for(self, providers, engine):
        is_over = threading.Event()
        providers["bulk"].will_always(wait_for(is_over))

        def one_more(entry, **_):
            if len(providers["default"].accepted) < 40:
                outbox.enqueue(a_message())
            else:
                is_over.set()

        outbox.enqueue(a_message(), using="bulk")
        outbox.enqueue(a_message())
        signals.entry_settled.connect(one_more)
        try:
            result = engine.run(slice_length=timedelta(seconds=0.05))
        finally:
            signals.entry_settled.disconnect(one_more)

        assert result.sent == 41

    def test_past_the_slice_nobody_is_served_who_could_not_be_done_in_time(self, providers, engine):
        is_over = threading.Event()

        def enqueue_late(entry, **_):
            outbox.enqueue(a_message("late"))

        def hang(message):
            is_over.wait(0.3)

        providers["bulk"].will_always(hang)
        outbox.enqueue(a_message(), using="bulk")
        outbox.enqueue(a_message("in time"))
        signals.entry_settled.connect(enqueue_late)
        try:
            engine.run(slice_length=timedelta(milliseconds=1), most=timedelta(seconds=1))
        finally:
            signals.entry_settled.disconnect(enqueue_late)

        assert providers["default"].subjects in ([], ["in time"])


class TestStuckSenders:
    def test_a_stuck_sender_loses_its_slot_and_its_late_success_lands(self, monkeypatch, engine):
        monkeypatch.setattr("mail_outbox.drain.senders.STUCK_AFTER", 0.1)
        is_over = threading.Event()
        with scripted_one_sender() as providers:
            providers["default"].will(hang_until(is_over, monkeypatch))
            stuck, other = outbox.enqueue(a_message("stuck")), outbox.enqueue(a_message("other"))

            result = engine.run()
            assert (result.sent, state_of(other), state_of(stuck)) == (1, State.SENT, State.SENDING)
            assert engine.is_worn_out

            is_over.set()
            deadline = time.monotonic() + 120
            while engine.is_worn_out and time.monotonic() < deadline:
                engine.run(slice_length=timedelta(seconds=0.1))

            assert state_of(stuck) == State.SENT

    def test_a_stuck_sender_ends_once_it_has_finished(self, monkeypatch):
        monkeypatch.setattr("mail_outbox.drain.senders.STUCK_AFTER", 0.1)
        is_over = threading.Event()
        engine = Engine("default")
        with scripted_one_sender() as providers:
            providers["default"].will(hang_until(is_over, monkeypatch))
            outbox.enqueue(a_message())
            engine.run()
        engine.stop()
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("mail_outbox sender")]
        is_over.set()

        for thread in threads:
            thread.join(120)
        assert threads
        assert not any(thread.is_alive() for thread in threads)

    def test_an_attempt_ends_by_the_expiry_of_its_entry(self):
        class Watch:
            def deliver(self, parcel):
                self.seconds_left = parcel.deadline - time.monotonic()
                return Sent()

        outbox.enqueue(a_message(), expires_at=timedelta(seconds=3))
        claim_id = uuid4()
        transitions.claim("default", 1, claim_id=claim_id, worker="w", lease=timedelta(minutes=4), database="default")
        (job,) = read_jobs(
            claim_id, deadline=timedelta(minutes=1), lease_until=time.monotonic() + 240, database="default"
        )

        perform(job, watch := Watch())

        assert 0 < watch.seconds_left <= 3

    def test_an_expiry_is_kept_however_long_the_claim_takes_to_come(self):
        class Watch:
            def deliver(self, parcel):
                self.deadline = parcel.deadline
                return Sent()

        def come_late(execute, sql, params, many, context):
            result = execute(sql, params, many, context)
            threading.Event().wait(0.5 if "claim_id" in sql else 0)
            return result

        outbox.enqueue(a_message(), expires_at=timedelta(seconds=3))
        claim_id, claimed_at = uuid4(), time.monotonic()
        transitions.claim("default", 1, claim_id=claim_id, worker="w", lease=timedelta(minutes=4), database="default")
        asked_at = time.monotonic()
        with connection.execute_wrapper(come_late):
            (job,) = read_jobs(claim_id, deadline=timedelta(minutes=1), lease_until=asked_at + 240, database="default")

        perform(job, watch := Watch())

        assert claimed_at < watch.deadline <= asked_at + 3

    def test_the_lease_is_never_shorter_than_a_send_may_take(self, engine):
        with scripted("default", LEASE=timedelta(seconds=1)) as providers:
            outbox.enqueue(a_message("x"))

            engine.run()

            assert providers["default"].subjects == ["x"]


class TestSignals:
    def test_each_attempt_and_each_settle_is_told_with_its_entry(self, provider):
        provider.will(TRY_LATER)
        entry = outbox.enqueue(a_message())
        told = []
        receivers = (
            (signals.attempt_finished, lambda entry, outcome, **_: told.append((entry.pk, outcome.kind))),
            (signals.entry_settled, lambda entry, state, previous, **_: told.append((entry.pk, previous, state))),
        )
        for signal, receiver in receivers:
            signal.connect(receiver)

        outbox.drain()

        for signal, receiver in receivers:
            signal.disconnect(receiver)
        assert told == [(entry.pk, "transient"), (entry.pk, State.SENDING, State.SCHEDULED)]


class TestWorkers:
    def test_a_worker_is_seen_while_it_works_and_gone_when_it_ends(self, provider, engine):
        engine.run()
        assert [worker.name for worker in Worker.objects.all()] == [engine.heartbeat.name]

        engine.stop()
        assert not Worker.objects.exists()

    def test_a_worker_whose_row_was_taken_away_registers_again(self, engine):
        with engine.heartbeat.place(1, length=timedelta(minutes=1)):
            Worker.objects.all().delete()

        with engine.heartbeat.place(1, length=timedelta(minutes=1)) as has_place:
            assert has_place

    def test_only_so_many_drains_run_at_once(self):
        first, second = Engine("default"), Engine("default")
        minute = timedelta(minutes=1)

        with first.heartbeat.place(1, length=minute) as has_place:
            assert has_place
            with second.heartbeat.place(1, length=minute) as has_place:
                assert not has_place
        with second.heartbeat.place(1, length=minute) as has_place:
            assert has_place
