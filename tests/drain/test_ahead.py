"""What is claimed a moment ahead of fast senders."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.mail import EmailMessage
from django.db import connections

from mail_outbox import outbox, transitions
from mail_outbox.core.envelope import Envelope
from mail_outbox.core.outcomes import Sent
from mail_outbox.core.retry import OnAmbiguous
from mail_outbox.core.states import State
from mail_outbox.drain import Engine, ahead
from mail_outbox.drain.ahead import MOST, MOST_BYTES, PROVEN_AFTER, SLOW, WORTH, Ahead
from mail_outbox.models import Attempt, OutboxEntry
from tests.fakes import BAD_LOGIN, Provider, wait_for
from tests.support import a_message, age

FAST, SENDERS = 0.002, 8


def result(seconds: float, size: int = 0) -> Any:
    """Return the result of an attempt that took so long, at a message with so many bytes attached."""
    job = SimpleNamespace(envelope=Envelope({}, {"name": b"x" * size}))
    return SimpleNamespace(job=job, duration=timedelta(seconds=seconds), outcome=Sent())


def proven(seconds: float, size: int = 0) -> Ahead:
    """Return what has seen enough attempts that took so long."""
    waiting = Ahead(SENDERS)
    for _ in range(PROVEN_AFTER):
        waiting.note(result(seconds, size))
    return waiting


class TestRoom:
    def test_nothing_waits_before_the_pace_is_known(self):
        waiting = Ahead(SENDERS)
        for _ in range(PROVEN_AFTER - 1):
            waiting.note(result(FAST))

        assert waiting.room == 0

    def test_fast_senders_have_work_for_a_moment(self):
        assert proven(FAST).room == MOST

    def test_what_waits_is_worth_a_fifth_of_a_second(self):
        assert proven(0.04).room == WORTH * SENDERS / 0.04 == 40

    def test_nothing_waits_for_a_slow_mailer(self):
        assert proven(SLOW * 1.1).room == 0

    def test_large_messages_do_not_wait_in_memory(self):
        assert proven(FAST, MOST_BYTES // 10).room == 10
        assert proven(FAST, MOST_BYTES * 2).room == 0

    def test_a_mailer_that_becomes_slow_is_noticed(self):
        waiting = proven(FAST)
        for _ in range(3):
            waiting.note(result(1.0))

        assert waiting.room == 0

    def test_there_is_room_again_when_half_has_gone(self):
        waiting = proven(FAST)
        for _ in range(MOST // 2 + 1):
            waiting.put(object())  # type: ignore[arg-type]
        full = waiting.room
        waiting.take()

        assert (full, waiting.room) == (0, MOST // 2)

    def test_nobody_need_look_before_half_has_gone(self):
        waiting = proven(0.04)
        for _ in range(20):
            waiting.put(object())  # type: ignore[arg-type]
        assert waiting.lasts == 0
        for _ in range(20):
            waiting.put(object())  # type: ignore[arg-type]

        assert waiting.lasts == pytest.approx(WORTH / 2)

    def test_what_waits_too_long_is_overdue(self, monkeypatch: pytest.MonkeyPatch):
        waiting = proven(FAST)
        waiting.put(object())  # type: ignore[arg-type]
        assert not waiting.is_overdue

        monkeypatch.setattr(ahead, "PATIENCE", -1)
        assert waiting.is_overdue


@pytest.mark.django_db
class TestClaim:
    def claim(self, room: int, more: int, *, oldest: range = range(0)) -> UUID:
        claim_id = uuid4()
        lease = timedelta(minutes=1)
        transitions.claim(
            "default", room, ahead=more, oldest=oldest, claim_id=claim_id, worker="w", lease=lease, database="default"
        )
        return claim_id

    def test_what_may_wait_is_claimed_ahead(self):
        outbox.enqueue_many(a_message() for _ in range(10))

        assert OutboxEntry.objects.claimed(self.claim(2, 5)).count() == 7

    def test_what_must_not_be_taken_for_tried_is_left_where_it_is(self):
        outbox.enqueue(a_message())
        held, tried = (outbox.enqueue(a_message(), on_ambiguous=policy) for policy in ("hold", "retry"))
        OutboxEntry.objects.filter(pk=tried.pk).update(attempts=1)

        assert OutboxEntry.objects.claimed(self.claim(0, 3)).count() == 1
        held.refresh_from_db()
        tried.refresh_from_db()
        assert {held.state, tried.state} == {State.QUEUED}

    @pytest.mark.parametrize(("policy", "attempts"), [("hold", 0), ("retry", 1)])
    def test_nothing_overtakes_what_must_not_wait(self, policy: OnAmbiguous, attempts: int):
        first = outbox.enqueue(a_message(), on_ambiguous=policy)
        OutboxEntry.objects.filter(pk=first.pk).update(attempts=attempts)
        outbox.enqueue_many(a_message() for _ in range(5))

        assert not OutboxEntry.objects.claimed(self.claim(0, 3)).exists()
        assert first in OutboxEntry.objects.claimed(self.claim(1, 3))

    def test_the_oldest_has_its_place_although_it_must_not_wait(self):
        oldest = outbox.enqueue(a_message(), on_ambiguous="hold", priority=-50)
        outbox.enqueue_many(a_message() for _ in range(10))

        claimed = OutboxEntry.objects.claimed(self.claim(2, 5, oldest=range(1, 2)))

        assert oldest in claimed
        assert claimed.count() == 7

    def test_nothing_waits_in_the_place_of_the_oldest(self):
        outbox.enqueue(a_message(), on_ambiguous="hold", priority=-50)
        outbox.enqueue_many(a_message() for _ in range(10))

        assert OutboxEntry.objects.claimed(self.claim(0, 5, oldest=range(3, 4))).count() == 3
        assert not OutboxEntry.objects.claimed(self.claim(0, 5, oldest=range(1))).exists()

    def test_it_is_claimed_for_a_sender_that_is_free(self):
        outbox.enqueue(a_message(), on_ambiguous="hold")

        assert OutboxEntry.objects.claimed(self.claim(1, 3)).count() == 1


@pytest.mark.django_db(transaction=True)
class TestEngine:
    @pytest.fixture
    def engine(self, provider: Provider) -> Iterator[Engine]:
        """Make an engine that knows its mailer for a fast one."""
        outbox.enqueue_many(a_message("early") for _ in range(2 * PROVEN_AFTER))
        engine = Engine("default")
        engine.run()
        assert Attempt.objects.count() == 2 * PROVEN_AFTER
        yield engine
        engine.stop()

    def waits_until(self, is_so: Callable[[], bool]) -> Callable[[EmailMessage], None]:
        """Return an action that accepts the message once it is so, or after ten seconds."""
        moment = threading.Event()

        def accept(_: EmailMessage) -> None:
            for _ in range(1000):
                if is_so() or moment.wait(0.01):
                    return

        return accept

    def takes(self, seconds: float) -> Callable[[EmailMessage], None]:
        """Return an action that accepts the message after so many seconds."""
        never = threading.Event()

        def accept(_: EmailMessage) -> None:
            never.wait(seconds)

        return accept

    def test_everything_goes_exactly_once(self, engine: Engine, provider: Provider):
        outbox.enqueue_many(a_message(str(number)) for number in range(300))

        assert engine.run().sent == 300
        assert sorted(provider.subjects[2 * PROVEN_AFTER :]) == sorted(map(str, range(300)))
        assert set(OutboxEntry.objects.values_list("state", "attempts")) == {(State.SENT, 1)}

    def test_more_is_claimed_than_there_are_senders(self, engine: Engine, provider: Provider):
        outbox.enqueue_many(a_message() for _ in range(300))
        seen: list[int] = []
        waiting = engine._dispatcher._pools["default"].ahead
        provider.will_always(lambda _: seen.append(waiting.waiting))

        engine.run()

        assert 0 < max(seen) <= MOST

    def test_no_bulk_overtakes_what_must_not_wait(self, engine: Engine, provider: Provider):
        outbox.enqueue_many((a_message("urgent") for _ in range(3 * SENDERS)), on_ambiguous="hold", priority=50)
        outbox.enqueue_many(a_message("bulk") for _ in range(300))
        numbers, all_begun, in_vain = count(1), threading.Event(), threading.Event()

        def accept_bulk_last(message: EmailMessage) -> None:
            if message.subject == "bulk":
                if not in_vain.is_set() and not all_begun.wait(120):
                    in_vain.set()
            elif next(numbers) == 3 * SENDERS:
                all_begun.set()

        provider.will_always(accept_bulk_last)

        engine.run()

        assert not in_vain.is_set()

    def test_nobody_waits_for_each_single_result_while_the_senders_have_enough_to_do(
        self, engine: Engine, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ):
        outbox.enqueue_many(a_message() for _ in range(300))
        provider.will_always(self.takes(0.02))
        waits: list[float] = []
        take = engine._take_result

        def note_wait(timeout: float) -> bool:
            waits.extend([timeout] if timeout > 0 else [])
            return take(timeout)

        monkeypatch.setattr(engine, "_take_result", note_wait)

        assert engine.run().sent == 300
        assert len(waits) < 150

    def test_what_waits_goes_back_when_the_mailer_gets_into_trouble(self, engine: Engine, provider: Provider):
        outbox.enqueue_many(a_message() for _ in range(300))
        provider.will(*[lambda _: None] * 100, *[BAD_LOGIN] * 300)

        result = engine.run()

        assert result.given_back > 0
        assert set(OutboxEntry.objects.exclude(state=State.SENT).values_list("state", "attempts")) == {
            (State.QUEUED, 0)
        }

    def test_what_waits_goes_back_when_the_worker_stops(self, engine: Engine, provider: Provider):
        outbox.enqueue_many(a_message() for _ in range(300))

        def stop(_: EmailMessage) -> None:
            engine.stop_requested.set()

        provider.will(*[lambda _: None] * 100, stop)

        engine.run()

        assert OutboxEntry.objects.filter(state=State.SENDING).count() == 0
        assert OutboxEntry.objects.filter(state=State.QUEUED, attempts=0).exists()

    def test_what_waits_behind_senders_that_hang_goes_back_after_a_second(self, engine: Engine, provider: Provider):
        release = threading.Event()
        entries = outbox.enqueue_many(a_message() for _ in range(300))
        keys = [entry.pk for entry in entries]
        provider.will(*[lambda _: None] * 100, *[wait_for(release)] * 8)

        def run() -> None:
            try:
                engine.run()
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            # What nobody has begun is queued again while all senders hang.
            is_settled = threading.Event()
            for _ in range(1000):
                sending = OutboxEntry.objects.filter(pk__in=keys, state=State.SENDING).count()
                if (sending, Attempt.objects.filter(entry__in=keys).count()) == (8, 100):
                    break
                is_settled.wait(0.02)
            waiting = OutboxEntry.objects.filter(pk__in=keys, state=State.QUEUED)
            assert set(waiting.values_list("attempts", flat=True)) == {0}
            assert waiting.count() == 300 - 108
        finally:
            release.set()
            thread.join(60)
        assert OutboxEntry.objects.filter(state=State.SENT, attempts=1).count() == 300 + 2 * PROVEN_AFTER

    def test_what_expires_is_not_sent_although_it_was_claimed(self, engine: Engine, provider: Provider):
        entries = outbox.enqueue_many((a_message("late") for _ in range(40)), expires_at=timedelta(hours=1))
        for entry in entries:
            age(entry, expires_at=timedelta(hours=-2))

        engine.run()

        assert "late" not in provider.subjects
