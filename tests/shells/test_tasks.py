"""django-q2's way in: the wake, the drain and the sweep."""

import logging
import os
import signal
import threading
import time
from datetime import timedelta

import pytest
from django.apps import apps
from django.db import OperationalError, connection, transaction
from django.db.models import ProtectedError, signals
from django.test.utils import CaptureQueriesContext
from django_q.brokers.orm import ORM
from django_q.models import OrmQ, Schedule, Task
from django_q.signing import SignedPackage

from mail_outbox import outbox, tasks
from mail_outbox.core.states import State
from mail_outbox.drain import Engine, wakes
from mail_outbox.models import CountMark, OutboxEntry, UtcNow, Wake, Worker
from tests.fakes import hang_until
from tests.support import a_message

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def wake_row():
    wakes.install(database="default")
    yield
    tasks._engine(os.getpid(), "default").stop()
    tasks._engine.cache_clear()


def queued_tasks() -> list[dict]:
    return [SignedPackage.loads(row.payload) for row in OrmQ.objects.all()]


class AwayWhenLeaving:
    """Lets the database be away so many times when a drain leaves its place."""

    def __init__(self, *, times: int) -> None:
        self.times, self.failed = times, 0

    def __call__(self, execute, sql, params, many, context):
        # Django 5.2 writes the NULL into the statement.
        is_leaving = sql.startswith("UPDATE") and "draining_until" in sql and ("NULL" in sql or None in params)
        if is_leaving and self.failed < self.times:
            self.failed += 1
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, params, many, context)


class TestWake:
    def test_a_commit_sends_one_task_however_much_it_enqueued(self):
        with transaction.atomic():
            outbox.enqueue(a_message())
            outbox.enqueue_many(a_message() for _ in range(50))
            assert not OrmQ.objects.exists()

        assert [task["func"] for task in queued_tasks()] == ["mail_outbox.tasks.drain"]

    def test_many_commits_share_one_task_until_it_looks(self):
        for _ in range(20):
            outbox.enqueue(a_message())
        assert OrmQ.objects.count() == 1

        tasks.drain()
        outbox.enqueue(a_message())

        assert OrmQ.objects.count() == 2

    def test_a_wake_that_nobody_answered_is_asked_for_again(self):
        outbox.enqueue(a_message())
        Wake.objects.update(requested_at="2020-01-01T00:00:00Z")

        outbox.enqueue(a_message())

        assert OrmQ.objects.count() == 2

    def test_a_rollback_sends_nothing(self):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            outbox.enqueue(a_message())
            raise ZeroDivisionError

        assert not OrmQ.objects.exists()

    def test_the_task_carries_no_truth_and_leaves_no_litter(self):
        outbox.enqueue(a_message())

        task = queued_tasks()[0]
        assert (task["args"], task["kwargs"]) == ((), {})
        assert (task["save"], task["ack_failure"], task["group"]) == (False, True, "mail_outbox")

    def test_a_setting_turns_it_off(self, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "WAKE": False}

        outbox.enqueue(a_message())

        assert not OrmQ.objects.exists()

    def test_a_broker_that_is_down_costs_a_logged_warning(self, monkeypatch, caplog):
        def refuse(broker, task):
            raise ConnectionRefusedError

        monkeypatch.setattr(ORM, "enqueue", refuse)
        with caplog.at_level(logging.WARNING, "mail_outbox.worker"):
            entry = outbox.enqueue(a_message())

        assert entry.committed
        assert [record.message for record in caplog.records if record.name == "mail_outbox.worker"] == ["wake failed"]

    def test_a_dedicated_cluster_gets_the_task(self, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "CLUSTER": "mail"}

        outbox.enqueue(a_message())

        assert OrmQ.objects.get().key == "mail"


class TestDrain:
    def test_it_delivers_and_says_how_much(self, provider):
        outbox.enqueue(a_message("x"))

        counts = tasks.drain()

        assert counts["sent"] == 1
        assert provider.subjects == ["x"]

    def test_it_clears_the_flag_before_it_looks(self, provider):
        asked = []
        provider.will_always(lambda message: asked.append(Wake.objects.filter(requested_at=None).exists()) and None)
        outbox.enqueue(a_message())
        assert not Wake.objects.filter(requested_at=None).exists()

        tasks.drain()

        assert asked == [True]

    def test_it_hands_over_when_its_time_is_up(self, provider, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "SLICE": tasks.timedelta(0)}
        outbox.enqueue(a_message())
        OrmQ.objects.all().delete()

        tasks.drain()

        assert OrmQ.objects.count() == 1

    def test_it_wakes_another_where_there_is_more_than_its_senders_can_take(self, provider):
        outbox.enqueue_many(a_message() for _ in range(30))
        OrmQ.objects.all().delete()

        tasks.drain()

        assert OrmQ.objects.count() == 1

    def test_it_wakes_nobody_for_what_it_can_do_alone(self, provider):
        outbox.enqueue_many(a_message() for _ in range(5))
        OrmQ.objects.all().delete()

        tasks.drain()

        assert not OrmQ.objects.exists()

    def test_it_does_not_wake_for_what_cannot_go(self, provider):
        outbox.pause("default")
        outbox.enqueue(a_message())
        OrmQ.objects.all().delete()

        tasks.drain()

        assert not OrmQ.objects.exists()

    def test_it_never_raises(self, monkeypatch, caplog):
        def break_down(self, **_):
            raise ZeroDivisionError

        monkeypatch.setattr("mail_outbox.drain.engine.Engine.run", break_down)
        with caplog.at_level(logging.ERROR, "mail_outbox.worker"):
            assert tasks.drain() == {}

        assert [record.message for record in caplog.records] == ["drain failed"]

    def test_it_writes_the_wake_row_where_a_flush_has_taken_it(self):
        Wake.objects.all().delete()

        tasks.drain()

        assert Wake.objects.count() == 1

    def test_only_so_many_run_at_once_and_the_last_looks_once_more(self, provider, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "MAX_DRAINS": 1}
        other = Engine("default")
        with other.heartbeat.place(1, length=tasks.timedelta(minutes=1)):
            outbox.enqueue(a_message())
            assert tasks.drain() == {}
            assert OutboxEntry.objects.get().state == State.QUEUED

        assert tasks.drain()["sent"] == 1

    def test_a_database_that_is_away_for_a_moment_costs_neither_the_place_nor_the_wake(self, provider, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "MAX_DRAINS": 1, "SLICE": timedelta(0)}
        outbox.enqueue(a_message())
        OrmQ.objects.all().delete()

        with connection.execute_wrapper(away := AwayWhenLeaving(times=1)):
            tasks.drain()

        assert away.failed == 1
        assert OrmQ.objects.count() == 1
        assert set(Worker.objects.values_list("draining_until", flat=True)) == {None}

    def test_a_database_that_stays_away_costs_the_place_until_it_runs_out_but_no_wake(self, provider, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "MAX_DRAINS": 1, "SLICE": timedelta(0)}
        outbox.enqueue(a_message())
        OrmQ.objects.all().delete()

        with connection.execute_wrapper(away := AwayWhenLeaving(times=100)):
            tasks.drain()

        assert away.failed > 0
        assert OrmQ.objects.count() == 1

    def test_what_was_stuck_and_is_sent_after_all_is_written_without_a_place(self, provider, settings, monkeypatch):
        monkeypatch.setattr("mail_outbox.drain.senders.STUCK_AFTER", 0.1)
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "MAX_DRAINS": 1}
        is_over = threading.Event()
        provider.will(hang_until(is_over, monkeypatch))
        entry = outbox.enqueue(a_message())
        tasks.drain()
        entry.refresh_from_db()
        assert entry.state == State.SENDING

        is_over.set()
        give_up_at = time.monotonic() + 120
        with Engine("default").heartbeat.place(1, length=timedelta(minutes=1)):
            while entry.state != State.SENT and time.monotonic() < give_up_at:
                assert tasks.drain() == {}
                entry.refresh_from_db()

        assert (entry.state, entry.attempts) == (State.SENT, 1)

    def test_whoever_has_the_place_answers_for_those_who_found_none(self, provider, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "MAX_DRAINS": 1}
        outbox.enqueue(a_message())
        OrmQ.objects.all().delete()
        provider.will(lambda message: wakes.ask(database="default") and None)

        tasks.drain()

        assert OrmQ.objects.count() == 1

    def test_a_terminated_worker_settles_what_it_sends_and_then_ends(self, provider):
        ended = []
        previous = signal.signal(
            signal.SIGTERM, lambda *_: ended.append(OutboxEntry.objects.values_list("state", flat=True))
        )
        try:
            provider.will(lambda message: os.kill(os.getpid(), signal.SIGTERM))
            outbox.enqueue_many(a_message() for _ in range(50))

            counts = tasks.drain()
        finally:
            signal.signal(signal.SIGTERM, previous)

        assert len(ended) == 1
        assert 1 <= counts["sent"] <= 16
        assert not OutboxEntry.objects.filter(state=State.SENDING).exists()

    def test_it_leaves_no_result_behind(self):
        outbox.enqueue(a_message())
        tasks.drain()

        assert not Task.objects.exists()


class TestSweep:
    def install(self):
        tasks.install_sweep(apps.get_app_config("mail_outbox"), using="default")

    def test_it_installs_itself_once(self):
        Schedule.objects.all().delete()

        self.install()
        self.install()

        schedule = Schedule.objects.get(func="mail_outbox.tasks.sweep")
        assert (schedule.schedule_type, schedule.minutes, schedule.repeats) == (Schedule.MINUTES, 1, -1)

    def test_what_somebody_edited_is_left_alone(self):
        Schedule.objects.all().delete()
        self.install()
        Schedule.objects.update(minutes=7)

        self.install()

        assert Schedule.objects.get().minutes == 7

    def test_it_delivers_what_nobody_woke_for(self, provider):
        outbox.enqueue(a_message("forgotten"))
        OrmQ.objects.all().delete()

        assert tasks.sweep()["sent"] == 1

    def test_one_that_finds_nothing_asks_the_database_for_little(self, provider):
        outbox.enqueue(a_message())
        for _ in range(3):
            tasks.sweep()
            CountMark.objects.update(looked_at=UtcNow() - timedelta(minutes=1))

        with CaptureQueriesContext(connection) as captured:
            tasks.sweep()

        # One every ten seconds, at a sweep a minute.
        asked = [query for query in captured if "mail_outbox_" in query["sql"]]
        assert len(asked) <= 6

    def test_it_removes_what_is_old_though_there_is_nothing_to_deliver(self):
        entry = outbox.enqueue(a_message(attachments=[("terms.pdf", b"%PDF", "application/pdf")]))
        OutboxEntry.objects.filter(pk=entry.pk).update(state=State.FAILED, finished_at=UtcNow() - timedelta(days=91))

        counts = tasks.sweep()

        assert (counts["pruned_entries"], counts["pruned_attachments"]) == (1, 1)
        assert not OutboxEntry.objects.exists()

    def test_it_keeps_the_rest_of_the_house_where_something_cannot_be_removed(self, caplog):
        for state in (State.FAILED, State.SENT):
            entry = outbox.enqueue(a_message())
            OutboxEntry.objects.filter(pk=entry.pk).update(state=state, finished_at=UtcNow() - timedelta(days=91))

        def protect(sender, instance, **_):
            if instance.state == State.FAILED:
                raise ProtectedError("by a table of the project", {instance})

        signals.pre_delete.connect(protect, sender=OutboxEntry)
        try:
            counts = tasks.sweep()
        finally:
            signals.pre_delete.disconnect(protect, sender=OutboxEntry)

        assert counts["pruned_entries"] == 1
        assert OutboxEntry.objects.get().state == State.FAILED
        assert "housekeeping failed" in caplog.messages


@pytest.mark.usefixtures("unmigrated")
def test_where_the_tables_are_missing_a_worker_lives_on_and_the_next_task_looks_again(caplog):
    assert tasks.drain() == {}
    assert tasks.sweep().get("sent", 0) == 0

    assert caplog.messages.count("drain failed") == 2
