"""Connections that do not come about: when that is the mailer's trouble, and when only the connection's."""

import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from django.core.mail import EmailMessage

from mail_outbox import outbox, signals
from mail_outbox.core.states import State
from mail_outbox.drain import Engine
from mail_outbox.models import MailerState, OutboxEntry
from tests.fakes import Provider, ScriptedBackend
from tests.support import a_message, mailers

pytestmark = pytest.mark.django_db

PATIENCE = 120


class Door(ScriptedBackend):
    """A mailer that may hang while it is opened, until the hang is over."""

    hangs: ClassVar[list["Hang"]] = []

    def open(self) -> None:
        """Open, or hang."""
        if self.hangs:
            self.hangs.pop().hold()


class Hang:
    """One connection that hangs until it is let go, and then has timed out."""

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()

    def hold(self) -> None:
        """Hang."""
        self.begun.set()
        assert self.over.wait(PATIENCE), "nobody has let it go"
        raise TimeoutError("timed out")


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Return the provider behind the door, two connections to which may be open."""
    Door.hangs.clear()
    Door.providers = {"default": Provider()}
    configured = {"BACKEND": f"{__name__}.Door", "OPTIONS": {"name": "default"}}
    with mailers({"default": configured}, MAILER_OPTIONS={"default": {"concurrency": 2}}):
        yield Door.providers["default"]
    Door.hangs.clear()


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("default")
    yield engine
    engine.stop()


@pytest.fixture
def settled() -> Iterator[Any]:
    """Return what connects a receiver of settled entries for one test."""
    receivers = []

    def connect(receiver: Any) -> None:
        signals.entry_settled.connect(receiver, weak=False)
        receivers.append(receiver)

    yield connect
    for receiver in receivers:
        signals.entry_settled.disconnect(receiver)


def strikes() -> int:
    return sum(MailerState.objects.values_list("strikes", flat=True))


def test_a_connection_that_hangs_while_others_take_messages_does_not_rest_the_mailer(provider, engine, settled):
    outbox.enqueue(a_message("the first, which shows that the mailer works"))
    engine.run()
    hang = Hang()
    Door.hangs.append(hang)

    def wait_for_the_hang(_: EmailMessage) -> None:
        assert hang.begun.wait(PATIENCE), "nothing hangs"

    provider.will(wait_for_the_hang)
    settled(lambda **_: hang.over.set())
    outbox.enqueue_many(a_message(str(number)) for number in range(2))

    result = engine.run()

    assert (result.sent, result.mailer) == (2, 1)
    assert strikes() == 0
    assert set(OutboxEntry.objects.values_list("state", "attempts")) == {(State.SENT, 1)}


def test_a_connection_that_hangs_rests_the_mailer_where_nothing_has_come_through_since(provider, engine):
    outbox.enqueue(a_message("the first, which shows that the mailer works"))
    engine.run()
    engine.stop()  # with its connection
    hang = Hang()
    hang.over.set()
    Door.hangs.append(hang)
    entry = outbox.enqueue(a_message())

    result = engine.run()

    entry.refresh_from_db()
    assert (entry.state, entry.attempts, result.mailer) == (State.QUEUED, 0, 1)
    assert strikes() == 1
    assert MailerState.objects.get().broken_reason == "mailer timeout: TimeoutError: timed out"
