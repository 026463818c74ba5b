"""A process that may start no more threads loses no mail: what no sender has begun goes back."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.drain import Engine
from mail_outbox.models import MailerState, OutboxEntry, UtcNow
from tests.fakes import Provider
from tests.support import a_message, scripted

pytestmark = pytest.mark.django_db(transaction=True)

Limit = Callable[[int | None], None]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Let so many more senders start, as the operating system may decide; None for as many as there are asked for."""
    start, left = threading.Thread.start, [0]

    def start_or_not(thread: threading.Thread) -> None:
        if thread.name.startswith("mail_outbox sender"):
            if not left[0]:
                raise RuntimeError("can't start new thread")
            left[0] -= 1
        start(thread)

    def let(number: int | None) -> None:
        left[0] = 1000 if number is None else number

    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    return let


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("default")
    yield engine
    engine.stop()


def states() -> set[Any]:
    return set(OutboxEntry.objects.values_list("state", "attempts"))


def test_without_any_sender_everything_goes_back(provider: Provider, engine: Engine, limit: Limit, caplog: Any):
    outbox.enqueue_many((a_message() for _ in range(20)), on_ambiguous="hold")
    limit(0)

    result = engine.run()

    assert (result.sent, result.is_work_left) == (0, False)
    assert states() == {(State.QUEUED, 0)}
    assert [record.mailer for record in caplog.records if record.message == "sender not started"] == ["default"]


def test_the_few_who_have_started_do_it_all(provider: Provider, engine: Engine, limit: Limit):
    outbox.enqueue_many((a_message() for _ in range(20)), on_ambiguous="hold")
    limit(2)

    engine.run()

    assert states() == {(State.SENT, 1)}


def test_it_is_delivered_once_there_are_threads_again(
    provider: Provider, engine: Engine, limit: Limit, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mail_outbox.drain.senders.REST", 0.0)
    outbox.enqueue_many((a_message() for _ in range(20)), on_ambiguous="hold")
    limit(0)
    engine.run(limit=8)
    limit(None)

    assert engine.run().sent == 20


def test_its_slot_is_given_back(limit: Limit):
    limit(0)
    with scripted("default", MAILER_OPTIONS={"default": {"rate": "10/h"}}):
        outbox.enqueue(a_message())
        engine = Engine("default")
        engine.run()
        engine.run()

        state = MailerState.objects.annotate(now=UtcNow()).get()
        assert state.next_slot_at <= state.now
