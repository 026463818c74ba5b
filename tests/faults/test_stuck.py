"""Senders that get stuck, in name resolution, TLS, a trickling answer, a mailer of its own kind: the others go on."""

import gc
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from mail_outbox import outbox
from mail_outbox.core.outcomes import WORKER_LOST, Kind
from mail_outbox.core.states import State
from mail_outbox.drain import Engine
from mail_outbox.models import Attempt, MailerState, OutboxEntry
from tests.delivery.esps import OPTIONS, POSTMARK_OK
from tests.fakes import wait_for
from tests.faults import SLOW, FaultServer, Peer
from tests.faults.certificates import GOOD
from tests.faults.conftest import ServerSide
from tests.faults.http_server import HTTPFaultServer
from tests.faults.smtp_server import SMTPFaultServer
from tests.support import a_message, mailers, scripted

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.django_db]

PAST = "2020-01-01T00:00:00Z"
COUNT = 20
PATIENCE = 120
SENDERS = 3
TRICKLE = (SLOW, 0.3)
LATER = {"first": timedelta(days=1000), "longest": timedelta(days=1000)}
"""What is to be tried again stays where it is for the length of a test, whatever the jitter."""
SMTP = "django.core.mail.backends.smtp.EmailBackend"
POSTMARK = "anymail.backends.postmark.EmailBackend"


class Resolver:
    """Stands for the system's resolver, which knows no timeout: holds so many lookups until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._resolve, self._left, self._released = socket.getaddrinfo, 0, threading.Event()
        self.held = 0
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def hold(self, lookups: int) -> None:
        """Hold the next ones."""
        self._left = lookups

    def release(self) -> None:
        """Answer, at last."""
        self._released.set()

    def _look_up(self, *args: Any, **kwargs: Any) -> Any:
        if self._left and threading.current_thread().name.startswith("mail_outbox sender"):
            self._left -= 1
            self.held += 1
            assert self._released.wait(PATIENCE), "nobody released the resolver"
        return self._resolve(*args, **kwargs)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """Let lookups be held, until the end of the test at the latest."""
    resolver = Resolver(monkeypatch)
    yield resolver
    resolver.release()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Run an engine that gives a stuck sender up soon after its deadline; its threads end with the test."""
    monkeypatch.setattr("mail_outbox.drain.senders.STUCK_AFTER", 0.2)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    engine = Engine("default")
    yield engine
    engine.stop()


@pytest.fixture(autouse=True)
def no_sender_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Wait, when all has been released and stopped, for the senders of the test."""
    before = set(senders())
    yield
    for thread in set(senders()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a sender has outlived what it was stuck in"


def senders() -> list[threading.Thread]:
    """List the threads that send."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("mail_outbox sender")]


@contextmanager
def mailer(backend: str, deadline: float, *, limit: int | None = None, **options: Any) -> Iterator[None]:
    """Configure the mailer `default`, whose sends may take so many seconds."""
    limits = limits_of(deadline, max_connections=limit)
    with mailers({"default": {"BACKEND": backend, "OPTIONS": options}}, MAILER_OPTIONS=limits, BACKOFF=LATER):
        yield


def limits_of(deadline: float, **more: Any) -> dict[str, Any]:
    """Return what MAILER_OPTIONS says of the mailer."""
    return {"default": {"concurrency": SENDERS, "deadline": timedelta(seconds=deadline), **more}}


def smtp(server: FaultServer, deadline: float, **options: Any) -> Any:
    """Configure a mailer over SMTP."""
    return mailer(SMTP, deadline, host=server.host, port=server.port, timeout=30, **options)


def postmark(server: HTTPFaultServer, deadline: float) -> Any:
    """Configure a mailer over HTTP."""
    return mailer(POSTMARK, deadline, api_url=server.url, timeout=30, **OPTIONS["postmark"])


def enqueue(**keywords: Any) -> None:
    """Enqueue as many mails as a test is about."""
    outbox.enqueue_many((a_message(f"mail {number}") for number in range(COUNT)), **keywords)


def the_other_one() -> OutboxEntry:
    """Return the one entry that was not sent, after a look that all the others were."""
    return OutboxEntry.objects.exclude(state=State.SENT).get()


def attempts_of(entry: OutboxEntry) -> list[tuple[str, str]]:
    return list(entry.attempt_set.order_by("pk").values_list("kind", "code"))


def try_again(engine: Engine) -> None:
    """Let what waits be due, and drain."""
    MailerState.objects.update(broken_until=PAST)
    OutboxEntry.objects.filter(state=State.SCHEDULED).update(due_at=PAST)
    engine.run()


def rescue(engine: Engine, entry: OutboxEntry) -> None:
    """Let the lease of the entry be over, and drain."""
    OutboxEntry.objects.filter(pk=entry.pk).update(lease_expires_at=PAST)
    engine.run()
    entry.refresh_from_db()


def stacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return where senders were found stuck, as it was logged."""
    return [record.stack for record in caplog.records if record.message == "sender stuck"]


class TestNameResolution:
    @pytest.mark.parametrize(("kind", "policy"), [("smtp", "hold"), ("http", "retry")])
    def test_the_others_go_on_and_what_was_stuck_is_known_not_to_have_left(
        self, engine: Engine, resolver: Resolver, caplog: pytest.LogCaptureFixture, kind: str, policy: str
    ):
        server: Any = SMTPFaultServer() if kind == "smtp" else HTTPFaultServer(default=POSTMARK_OK)
        with server, smtp(server, 2.0) if kind == "smtp" else postmark(server, 2.0):
            resolver.hold(1)
            enqueue(on_ambiguous=policy)
            engine.run()

            entry = the_other_one()
            assert (entry.state, entry.claim_id, resolver.held) == (State.SCHEDULED, None, 1)
            assert attempts_of(entry) == [(Kind.TRANSIENT, "stuck")]
            assert len(server.journal) == COUNT - 1
            (stack,) = stacks(caplog)
            assert "_look_up" in stack
            assert not engine.is_worn_out

            try_again(engine)
            assert (OutboxEntry.objects.get(pk=entry.pk).state, len(server.journal)) == (State.SENT, COUNT)

            before = attempts_of(entry)
            resolver.release()
            come_back(engine)
            # What it says so late is no news: neither of the mail nor of the mailer.
            assert (attempts_of(entry), len(server.journal)) == (before, COUNT)
            assert not MailerState.objects.filter(strikes__gt=0).exists()

    def test_past_the_cap_the_worker_ends_with_few_threads_and_little_memory(self, engine: Engine, resolver: Resolver):
        size, threads_before = 1_000_000, len(senders())
        with SMTPFaultServer() as server, smtp(server, 0.3):
            resolver.hold(1000)
            for number in range(COUNT):
                outbox.enqueue(a_message(f"mail {number}", attachments=[("a.bin", bytes(size), "application/pdf")]))
            tracemalloc.start(1)
            try:
                engine.run()
                gc.collect()
                taken = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()

            assert engine.is_worn_out
            assert len(senders()) - threads_before <= 2 * SENDERS
            # What is built for sending takes a few times the message, for each sender and for no other mail.
            assert taken < 2 * SENDERS * 4 * size < COUNT * 2 * size
            assert server.connections == 0
            assert not OutboxEntry.objects.filter(state=State.SENDING).exists()
            assert OutboxEntry.objects.filter(state=State.QUEUED, attempts=0).exists(), "nothing was left to others"

            resolver.release()
            come_back(engine)
            assert not engine.is_worn_out
            assert len(server.journal) == 0
            try_again(engine)

    def test_stuck_senders_that_take_all_connections_there_may_be_are_past_the_cap(
        self, engine: Engine, resolver: Resolver
    ):
        with SMTPFaultServer() as server, smtp(server, 2.0, limit=1):
            resolver.hold(1)
            enqueue()
            engine.run()

            # The one connection there may be is taken for open: the process must make room.
            assert engine.is_worn_out
            assert OutboxEntry.objects.filter(state=State.QUEUED).count() == COUNT - 1


def come_back(engine: Engine) -> None:
    """Wait until the engine has seen all of its senders come back."""
    until = time.monotonic() + PATIENCE
    while any(engine._dispatcher._pools[alias]._stuck for alias in engine._dispatcher._pools):
        assert time.monotonic() < until, "not all senders came back"
        engine.run(slice_length=timedelta(seconds=0.05))


class SilentFirst(HTTPFaultServer):
    """Takes the first connection, and never says a word, not of TLS either."""

    def serve(self, peer: Peer, number: int) -> None:
        """Answer all but the first."""
        if number == 1:
            peer.hang()
        super().serve(peer, number)


class TestTLS:
    @pytest.mark.parametrize("how", ["from the start", "starttls", "https"])
    def test_a_handshake_that_is_never_answered_keeps_nobody_else_and_ends_in_time(
        self, engine: Engine, trust: ServerSide, how: str
    ):
        tls = trust(GOOD)
        is_first = how == "from the start"
        server: Any = (
            SilentFirst(default=POSTMARK_OK, tls=tls)
            if how == "https"
            else SMTPFaultServer({"tls": ["hang"]}, tls=tls, is_tls_from_the_start=is_first)
        )
        options = {"use_ssl": True} if is_first else {"use_tls": True}
        with server, postmark(server, 2.0) if how == "https" else smtp(server, 2.0, **options):
            enqueue(on_ambiguous="hold")
            engine.run()

            # The others were taken meanwhile: the mailer does not rest, and the one goes at once, without a lost attempt.
            entry = OutboxEntry.objects.get(attempt__kind=Kind.MAILER)
            assert [kind for kind, _ in attempts_of(entry)] == [Kind.MAILER, Kind.SENT]
            assert set(OutboxEntry.objects.values_list("state", "attempts")) == {(State.SENT, 1)}
            assert len(server.journal) == COUNT
            assert not MailerState.objects.filter(strikes__gt=0).exists()


class TestTrickle:
    @pytest.mark.parametrize(
        ("kind", "policy", "state"), [("smtp", "hold", State.HELD), ("http", "retry", State.SCHEDULED)]
    )
    def test_an_answer_that_trickles_in_keeps_nobody_else_and_is_ambiguous(
        self, engine: Engine, kind: str, policy: str, state: State
    ):
        server: Any = (
            SMTPFaultServer({"dot": [TRICKLE]}) if kind == "smtp" else HTTPFaultServer([TRICKLE], default=POSTMARK_OK)
        )
        with server, smtp(server, 2.0) if kind == "smtp" else postmark(server, 2.0):
            enqueue(on_ambiguous=policy)
            engine.run()

            entry = the_other_one()
            assert (entry.state, attempts_of(entry)) == (state, [(Kind.AMBIGUOUS, "deadline")])
            # It may have been accepted, and here it was: the others were, every one.
            assert len(server.journal) in (COUNT - 1, COUNT)

    @pytest.mark.parametrize("step", ["mail", "data"])
    def test_what_trickles_before_the_hand_over_is_known_not_to_have_left(self, engine: Engine, step: str):
        with SMTPFaultServer({step: [TRICKLE]}) as server, smtp(server, 2.0):
            enqueue(on_ambiguous="hold")
            engine.run()

            entry = the_other_one()
            assert (entry.state, attempts_of(entry)) == (State.SCHEDULED, [(Kind.TRANSIENT, "deadline")])
            assert len(server.journal) == COUNT - 1


class TestAMailerThatNobodyCanLookInto:
    @pytest.mark.parametrize(
        ("policy", "state", "reason"), [("retry", State.SCHEDULED, ""), ("hold", State.HELD, "ambiguous")]
    )
    def test_the_others_go_on_and_what_is_stuck_in_it_ends_by_rescue(
        self, engine: Engine, caplog: pytest.LogCaptureFixture, policy: str, state: State, reason: str
    ):
        is_over = threading.Event()
        with scripted("default", MAILER_OPTIONS=limits_of(1.5), BACKOFF=LATER) as providers:
            try:
                providers["default"].will(wait_for(is_over))
                enqueue(on_ambiguous=policy)
                engine.run()

                entry = the_other_one()
                assert (entry.state, len(providers["default"].accepted)) == (State.SENDING, COUNT - 1)
                (stack,) = stacks(caplog)
                assert "send_messages" in stack

                rescue(engine, entry)
                assert (entry.state, entry.state_reason) == (state, reason)
                assert attempts_of(entry) == [(Kind.AMBIGUOUS, WORKER_LOST)]
            finally:
                is_over.set()
            come_back(engine)
            entry.refresh_from_db()
            assert (entry.state, len(providers["default"].accepted)) == (State.SENT, COUNT)

    def test_what_could_not_be_opened_in_time_is_not_handed_over_any_more(self, engine: Engine):
        is_over = threading.Event()
        with (
            scripted("default", MAILER_OPTIONS=limits_of(1.5), BACKOFF=LATER) as providers,
            pytest.MonkeyPatch.context() as patched,
        ):
            opened = []

            def open_slowly(backend: Any) -> None:
                opened.append(backend)
                if len(opened) == 1:
                    assert is_over.wait(PATIENCE)

            patched.setattr("tests.fakes.ScriptedBackend.open", open_slowly)
            try:
                enqueue(on_ambiguous="hold")
                engine.run()
                entry = the_other_one()
                assert (entry.state, attempts_of(entry)) == (State.SCHEDULED, [(Kind.TRANSIENT, "stuck")])
            finally:
                is_over.set()
            come_back(engine)

            assert len(providers["default"].accepted) == COUNT - 1
            try_again(engine)
            assert len(providers["default"].accepted) == COUNT
            assert not OutboxEntry.objects.exclude(state=State.SENT).exists()


def test_senders_that_stood_still_with_their_worker_have_time_to_finish(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """A process that was frozen finds all of its senders past their deadlines when it goes on, and the answers there."""
    goes_on, is_over = threading.Event(), threading.Event()
    look = engine._dispatcher.give_up_stuck

    def look_late() -> Any:
        if not engine._dispatcher.busy or goes_on.is_set():
            return look()
        goes_on.wait(3.0)  # stand still, well past the deadline and the time that a stuck sender has
        goes_on.set()
        monkeypatch.setattr("mail_outbox.drain.senders.STUCK_AFTER", 30)
        threading.Timer(0.3, is_over.set).start()
        return look()

    monkeypatch.setattr(engine._dispatcher, "give_up_stuck", look_late)
    with scripted("default", MAILER_OPTIONS=limits_of(2.0), BACKOFF=LATER) as providers:
        providers["default"].will(wait_for(is_over))
        outbox.enqueue(a_message())
        result = engine.run()

    assert (result.sent, OutboxEntry.objects.get().state) == (1, State.SENT)
    assert list(Attempt.objects.values_list("kind", flat=True)) == [Kind.SENT]
