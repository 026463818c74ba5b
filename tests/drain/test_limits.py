"""The engine at the limits of a mailer: rates, connections, slowing down, and how carefully it begins."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from queue import SimpleQueue

import pytest
from django.db import connection

from mail_outbox import conf as settings
from mail_outbox import outbox, signals, transitions
from mail_outbox.conf import MailerOptions
from mail_outbox.core.outcomes import MailerTrouble, Sent, Throttled, Transient
from mail_outbox.core.states import State
from mail_outbox.drain import Engine
from mail_outbox.drain.fitness import Fitness
from mail_outbox.drain.senders import Pool
from mail_outbox.drain.shares import Shares
from mail_outbox.drain.slots import MISSED
from mail_outbox.models import ConnectionShare, MailerState, OutboxEntry, UtcNow
from tests.drain.test_database_trouble import Outage
from tests.fakes import BAD_LOGIN, SLOW_DOWN, Provider, hang_until, wait_for
from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.processes import eventually, smtp
from tests.races.parallel import at_once
from tests.support import a_message, mailers, scripted

pytestmark = pytest.mark.django_db

PAST = "2020-01-01T00:00:00Z"
SECOND = timedelta(seconds=1)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("default")
    yield engine
    engine.stop()


def limited(*names: str, **options: object):
    """Configure scripted mailers, the first of them with these options."""
    names = names or ("default",)
    return scripted(*names, MAILER_OPTIONS={names[0]: options})


def note_times(provider: Provider) -> list[float]:
    """Let the provider accept everything, and write down when."""
    moments: list[float] = []
    provider.will_always(lambda message: moments.append(time.monotonic()))
    return moments


class TestRate:
    def test_messages_leave_one_by_one_at_their_slots(self):
        with limited(rate="20/s") as providers:
            moments = note_times(providers["default"])
            outbox.enqueue_many(a_message() for _ in range(12))

            result = outbox.drain()

        assert result.sent == 12
        assert moments[-1] - moments[0] > 10 * 0.05025
        assert min(later - earlier for earlier, later in pairwise(moments)) > 0

    def test_a_drain_without_a_slice_waits_for_every_slot(self):
        with limited(rate="45/m"):
            outbox.enqueue_many(a_message() for _ in range(2))

            began = time.monotonic()
            result = outbox.drain()

        assert result.sent == 2
        assert time.monotonic() - began > 1.3

    def test_a_slice_waits_for_slots_as_long_as_it_lasts_and_hands_over_then(self, engine):
        with limited(rate="20/m"):
            outbox.enqueue_many(a_message() for _ in range(5))

            result = engine.run(slice_length=4.5 * SECOND)

        assert (result.sent, result.is_work_left) == (2, True)
        assert MailerState.objects.get().awaited_by == ""

    def test_where_another_worker_waits_for_the_slot_this_one_does_not(self, engine):
        with limited(rate="10/m"):
            outbox.enqueue_many(a_message() for _ in range(2))
            outbox.drain(limit=1)
            assert transitions.await_slot("default", worker="other", length=60 * SECOND, database="default")

            began = time.monotonic()
            result = engine.run(slice_length=60 * SECOND)

        assert (result.attempts, result.is_work_left) == (0, False)
        assert time.monotonic() - began < 5

    def test_a_slot_after_the_next_sweep_is_waited_for_by_nobody(self, engine):
        with limited(rate="10/h"):
            outbox.enqueue_many(a_message() for _ in range(2))
            outbox.drain(limit=1)
            MailerState.objects.update(next_slot_at=UtcNow() + 100 * SECOND)

            began = time.monotonic()
            result = engine.run(slice_length=60 * SECOND)

        assert (result.attempts, result.is_work_left) == (0, False)
        assert time.monotonic() - began < 5

    def test_other_mailers_are_not_slowed_down_meanwhile(self):
        with limited("default", "bulk", rate="1/s") as providers:
            moments = note_times(providers["default"])
            outbox.enqueue_many(a_message() for _ in range(4))
            outbox.enqueue_many((a_message() for _ in range(100)), using="bulk")
            done_at = []
            providers["bulk"].will_always(lambda message: done_at.append(time.monotonic()))

            outbox.drain()

        assert len(done_at) == 100
        assert max(done_at) < moments[-1]

    def test_a_stop_does_not_wait_for_slots_and_gives_them_back(self, engine):
        with limited(rate="2/s") as providers:
            outbox.enqueue_many(a_message(str(number)) for number in range(3))
            engine.run(limit=1)
            providers["default"].will(lambda message: engine.stop_requested.set())

            result = engine.run()

            assert providers["default"].subjects == ["0", "1"]
        assert result.given_back == 1
        assert set(OutboxEntry.objects.values_list("state", "attempts")) == {("sent", 1), ("queued", 0)}
        row = MailerState.objects.annotate(now=UtcNow()).get()
        assert row.next_slot_at - row.now < 0.6 * SECOND

    def test_what_waits_for_its_slot_is_called_back_when_the_mailer_gets_into_trouble(self, engine):
        with limited(rate="150/m") as providers:
            outbox.enqueue_many(a_message(str(number)) for number in range(6))
            engine.run(limit=1)
            providers["default"].will(SLOW_DOWN)

            result = engine.run()

            assert providers["default"].subjects == ["0"]
        assert result.throttled == 1
        assert result.given_back >= 1
        assert set(OutboxEntry.objects.values_list("state", "attempts")) == {("sent", 1), ("queued", 0)}

    def test_a_probe_waits_for_its_slot_too(self, engine):
        with limited(rate="2/s") as providers:
            providers["default"].will(BAD_LOGIN)
            outbox.enqueue_many(a_message() for _ in range(2))
            engine.run()
            MailerState.objects.update(broken_until=PAST, next_slot_at=UtcNow() + 0.4 * SECOND)

            began = time.monotonic()
            result = engine.run()

        assert result.sent == 2
        assert time.monotonic() - began > 0.3

    def test_a_message_too_late_for_its_slot_goes_back_unsent(self):
        assert not MISSED.wait(threading.Event())

    def test_a_short_lease_leaves_room_for_the_wait(self):
        with scripted("default", MAILER_OPTIONS={"default": {"rate": "2/s"}}, LEASE=SECOND):
            outbox.enqueue_many(a_message() for _ in range(4))

            assert outbox.drain().sent == 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("answer_lost", [False, True], ids=["refused", "answer lost"])
def test_whenever_the_database_goes_away_each_mail_goes_out_once_within_the_limits(answer_lost, monkeypatch):
    monkeypatch.setattr("mail_outbox.drain.engine.TROUBLE_WAIT", (0.0001, 0.001))
    statement, has_struck = 0, True
    while has_struck:
        statement += 1
        with limited(rate="500/s", max_connections=3) as providers:
            outbox.enqueue_many(a_message(str(number)) for number in range(3))
            engine = Engine("default")
            with connection.execute_wrapper(outage := Outage(first=statement, answer_lost=answer_lost)):
                engine.run()
            has_struck = outage.has_struck
            engine.run()
            engine.stop()

        assert sorted(providers["default"].subjects) == ["0", "1", "2"], statement
        assert set(OutboxEntry.objects.values_list("state", "attempts")) == {("sent", 1)}, statement
        OutboxEntry.objects.all().delete()
        ConnectionShare.objects.all().delete()
        MailerState.objects.all().delete()

    assert statement > 20


@pytest.fixture
def sink() -> Iterator[SMTPFaultServer]:
    with SMTPFaultServer() as server:
        yield server


def through(sink: SMTPFaultServer, **options: object):
    """Configure one mailer over SMTP to the sink, with these options."""
    return mailers({"default": smtp(sink)}, MAILER_OPTIONS={"default": options})


class TestConnections:
    @pytest.mark.django_db(transaction=True)
    def test_workers_never_open_more_than_the_mailer_allows(self, sink):
        sink.latency = 0.01
        with through(sink, max_connections=3):
            outbox.enqueue_many(a_message() for _ in range(60))
            engines = [Engine("default") for _ in range(4)]

            at_once(*[engine.run for engine in engines])
            outbox.drain()
            for engine in engines:
                engine.stop()

        assert len(sink.journal) == 60
        assert sink.max_open_connections <= 3

    def test_the_end_of_a_run_leaves_no_connection_and_no_share(self, sink, engine):
        with through(sink, max_connections=3):
            outbox.enqueue_many(a_message() for _ in range(20))

            engine.run()

            assert not ConnectionShare.objects.exists()
            eventually(lambda: not sink.open_connections)
        assert len(sink.journal) == 20

    def test_where_others_have_them_all_nothing_is_claimed_and_nobody_is_woken(self, engine):
        with limited(max_connections=2):
            transitions.take_share("default", worker="other", wanted=2, limit=2, length=60 * SECOND, database="default")
            outbox.enqueue(a_message())

            result = engine.run(slice_length=0.2 * SECOND)

        assert (result.attempts, result.is_work_left) == (0, False)
        assert OutboxEntry.objects.get().state == State.QUEUED

    def test_what_comes_while_connections_are_given_back_is_work_left(self, engine, monkeypatch):
        with limited(max_connections=1):
            outbox.enqueue(a_message())
            give_back = Shares.give_back

            def enqueue_and_give_back(shares: Shares, pool: Pool, *, length: timedelta) -> None:
                outbox.enqueue(a_message("late"))
                give_back(shares, pool, length=length)

            monkeypatch.setattr(Shares, "give_back", enqueue_and_give_back)

            assert engine.run(slice_length=60 * SECOND).is_work_left

    @pytest.mark.django_db(transaction=True)
    def test_a_worker_that_waits_for_another_mailer_frees_the_connections_it_does_not_use(self, engine):
        is_over = threading.Event()
        with limited("default", "bulk", max_connections=2) as providers:
            providers["bulk"].will(wait_for(is_over))
            outbox.enqueue(a_message(), using="bulk")
            outbox.enqueue(a_message())

            def let_go() -> None:
                try:
                    eventually(lambda: providers["default"].accepted)
                    eventually(lambda: not ConnectionShare.objects.exists())
                finally:
                    is_over.set()

            at_once(engine.run, let_go)

    def test_a_stuck_sender_keeps_its_connection_until_it_ends(self, engine, monkeypatch):
        monkeypatch.setattr("mail_outbox.drain.senders.STUCK_AFTER", 0.1)
        is_over = threading.Event()
        with limited(max_connections=1) as providers:
            providers["default"].will(hang_until(is_over, monkeypatch))
            outbox.enqueue_many(a_message() for _ in range(2))

            engine.run()

            assert providers["default"].accepted == []
            assert ConnectionShare.objects.get().count == 1

            is_over.set()
            eventually(lambda: engine.run().sent or len(providers["default"].accepted) == 2)
        assert not ConnectionShare.objects.exists()

    def test_a_share_that_ran_out_is_asked_for_again_before_anything_starts(self):
        shares, pool = Shares("default", "me"), a_pool(max_connections=2)

        assert shares.room(pool, 2, longest=SECOND, length=-SECOND, has_work=lambda: True) == 2
        transitions.take_share("default", worker="other", wanted=2, limit=2, length=60 * SECOND, database="default")

        assert shares.room(pool, 2, longest=SECOND, length=60 * SECOND, has_work=lambda: True) == 0

    def test_a_share_that_ends_before_the_message_can_is_renewed_first(self):
        shares, pool = Shares("default", "me"), a_pool(max_connections=2)
        shares.room(pool, 1, longest=SECOND, length=10 * SECOND, has_work=lambda: True)
        first = ConnectionShare.objects.get().expires_at

        assert shares.room(pool, 1, longest=20 * SECOND, length=30 * SECOND, has_work=lambda: True) == 1
        assert ConnectionShare.objects.get().expires_at - first > 15 * SECOND


def a_pool(**options: object) -> Pool:
    return Pool("default", MailerOptions(**options), SimpleQueue())


class TestSlowStart:
    def fitness(self) -> Fitness:
        fitness = Fitness("default")
        fitness.read()
        return fitness

    def room(self, fitness: Fitness, free: int = 8) -> int:
        return fitness.room("default", free, settings.get_conf())

    def note(self, fitness: Fitness, *outcomes: object) -> None:
        fitness.note("default", outcomes, luck=1.0)

    def test_one_sender_tries_a_mailer_that_this_process_does_not_know(self, provider):
        fitness = self.fitness()

        assert self.room(fitness) == 1
        fitness.note_claim("default", 8, settings.get_conf())
        assert self.room(fitness, 7) == 0

    def test_all_senders_go_once_it_has_answered(self, provider):
        fitness = self.fitness()
        fitness.note_claim("default", 8, settings.get_conf())

        self.note(fitness, Sent())

        assert self.room(fitness) == 8

    def test_an_answer_that_proves_nothing_changes_nothing(self, provider):
        fitness = self.fitness()
        fitness.note_claim("default", 8, settings.get_conf())

        self.note(fitness, Transient())

        assert self.room(fitness) == 1

    def test_after_trouble_it_begins_again_with_one(self, provider):
        fitness = self.fitness()
        self.note(fitness, Sent())
        self.note(fitness, MailerTrouble())
        outbox.resume("default")
        fitness.read()

        assert self.room(fitness) == 1

    def test_once_its_connections_are_closed_it_begins_again_with_one(self):
        with limited(idle_after=timedelta(microseconds=1)):
            fitness = self.fitness()
            self.note(fitness, Sent())

            assert self.room(fitness) == 1
            assert self.room(fitness, 5) == 5, "three are still at it"

    def test_a_first_message_that_hangs_does_not_hold_up_the_others(self, provider):
        is_over = threading.Event()
        provider.will(wait_for(is_over))
        outbox.enqueue_many(a_message() for _ in range(20))

        def end(**_: object) -> None:
            if len(provider.accepted) == 19:
                is_over.set()

        signals.entry_settled.connect(end)
        try:
            result = outbox.drain()
        finally:
            signals.entry_settled.disconnect(end)

        assert is_over.is_set()
        assert result.sent == 20

    def test_a_mailer_that_has_just_recovered_is_used_by_one_sender_of_each_worker(self, provider):
        fitness = self.fitness()
        self.note(fitness, Sent())
        transitions.note_outcomes("default", [MailerTrouble()], probed=False, luck=1.0, database="default")
        transitions.note_outcomes("default", [Sent()], probed=True, luck=1.0, database="default")
        fitness.read()

        assert self.room(fitness) == 1

        MailerState.objects.update(recovered_at=UtcNow() - 3 * SECOND)
        fitness.read()
        assert self.room(fitness) == 8

    def test_a_mailer_that_was_throttled_has_fewer_senders_until_it_has_recovered(self, provider):
        transitions.note_outcomes("default", [Throttled()], probed=False, luck=1.0, database="default")
        transitions.mailers.close_breaker("default", database="default")
        MailerState.objects.update(recovered_at=UtcNow() - 60 * SECOND)
        fitness = self.fitness()
        self.note(fitness, Sent())

        assert self.room(fitness) == 4

        MailerState.objects.update(slowed_at=UtcNow() - timedelta(minutes=5))
        fitness.read()
        assert self.room(fitness) == 8
