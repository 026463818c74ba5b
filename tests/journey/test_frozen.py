"""A worker that stands still past its lease and goes on: what the provider took meanwhile is written as a fact."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from mail_outbox import outbox
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from mail_outbox.drain import Engine
from mail_outbox.models import EntryContent, OutboxEntry, Worker
from mail_outbox.outbox import sweeping
from tests.fakes import Provider
from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.processes import PATIENCE, Processes, eventually, smtp
from tests.support import a_message, age

pytestmark = [pytest.mark.journey, pytest.mark.slow]

DEADLINE, LONG = timedelta(seconds=2), timedelta(hours=1)


class SlowSink(SMTPFaultServer):
    """Takes a mail, and says so when it is told to."""

    def __init__(self) -> None:
        super().__init__({"dot": self._wait})
        self.has_mail, self.may_answer = threading.Event(), threading.Event()

    def _wait(self, _: object) -> None:
        self.has_mail.set()
        assert self.may_answer.wait(PATIENCE), "nobody let the sink answer"


@pytest.fixture
def slow_sink() -> Iterator[SlowSink]:
    """Run a server that answers when it is told to, at the end of the test at the latest."""
    with SlowSink() as server:
        yield server
        server.may_answer.set()


@pytest.mark.parametrize("kind", ["cluster", "drain"])
def test_a_worker_that_stood_still_past_its_lease_writes_what_was_accepted(
    processes: Processes, slow_sink: SlowSink, kind: str
):
    processes.mailers = {"default": smtp(slow_sink)}
    processes.outbox |= {"SLICE": timedelta(seconds=1), "MAILER_OPTIONS": {"default": {"deadline": DEADLINE}}}
    if kind == "cluster":
        processes.cluster()
    else:
        processes.start(["-m", "django", "outbox", "drain", "--forever"], name="drain")
    entry = outbox.enqueue(a_message(), on_ambiguous="hold")
    assert slow_sink.has_mail.wait(PATIENCE), "nobody delivered"
    worker = Worker.objects.get(name=OutboxEntry.objects.get().worker)

    os.kill(worker.pid, signal.SIGSTOP)
    try:
        late_at = time.monotonic() + DEADLINE.total_seconds()
        age(entry, lease_expires_at=-LONG)
        assert sweeping.rescue(database="default") == {State.HELD: 1}
        slow_sink.may_answer.set()
        eventually(lambda: slow_sink.journal and time.monotonic() > late_at)
    finally:
        os.kill(worker.pid, signal.SIGCONT)

    eventually(lambda: OutboxEntry.objects.filter(state=State.SENT).exists())
    assert list(entry.attempt_set.order_by("pk").values_list("kind", flat=True)) == [Kind.AMBIGUOUS, Kind.SENT]
    assert set(entry.recipients.values_list("status", flat=True)) == {"accepted"}
    assert len(slow_sink.journal) == 1


@pytest.mark.django_db(transaction=True)
def test_what_ends_a_run_by_force_leaves_time_to_write_what_is_being_sent(provider: Provider):
    is_over = threading.Event()

    def accept(_: object) -> None:
        assert is_over.wait(PATIENCE)

    def interrupt() -> None:
        threading.Timer(0.1, is_over.set).start()
        raise SystemExit("the time is up")

    provider.will(accept)
    outbox.enqueue_many(a_message(f"mail {number}") for number in range(20))
    engine = Engine("default")
    try:
        with pytest.raises(SystemExit):
            engine.run(on_backlog=interrupt)
    finally:
        engine.stop()

    states = set(OutboxEntry.objects.values_list("state", "attempts"))
    assert states == {(State.SENT, 1), (State.QUEUED, 0)}
    assert OutboxEntry.objects.filter(state=State.SENT).count() == len(provider.accepted)


@pytest.mark.django_db(transaction=True)
def test_what_ends_a_run_by_force_leaves_time_to_put_back_what_nobody_has_begun(provider: Provider):
    entries = outbox.enqueue_many(a_message() for _ in range(3))

    def interrupt(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith("SELECT") and EntryContent._meta.db_table in sql:
            raise SystemExit("the time is up")
        return execute(sql, *arguments)

    engine = Engine("default")
    try:
        with connection.execute_wrapper(interrupt), pytest.raises(SystemExit):
            engine.run()
    finally:
        engine.stop()

    assert not provider.accepted
    states = OutboxEntry.objects.filter(pk__in=[entry.pk for entry in entries]).values_list("state", "attempts")
    assert set(states) == {(State.QUEUED, 0)}
