"""A worker that was given up and comes back: its success is a fact, everything else is none of its business."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from mail_outbox import outbox
from mail_outbox.core.outcomes import WORKER_LOST, Kind
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, OutboxEntry
from tests.fakes import NOBODY_KNOWS, REFUSED, TRY_LATER, Provider, ScriptedBackend
from tests.races.parallel import Gate, beside, drain
from tests.support import a_message, scripted

pytestmark = [pytest.mark.race, pytest.mark.django_db(transaction=True)]

LONG = timedelta(hours=1)


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Let the mailer `default` obey a script; what is scheduled again stays scheduled for the length of a test."""
    with scripted("default", BACKOFF={"first": LONG * 1000, "longest": LONG * 1000}) as providers:
        yield providers["default"]


@contextmanager
def a_worker_given_up(provider: Provider, gate: Gate) -> Iterator[Callable[[], None]]:
    """Let a worker be in the middle of the one mail when another rescues it; yield what lets the first come back."""
    provider.will(gate)
    outbox.enqueue(a_message())
    # It claims nothing more, so that the second attempt is another worker's.
    with beside(lambda: drain(limit=1)) as wait_for_end:
        gate.wait_until_reached()
        OutboxEntry.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
        drain()
        entry = OutboxEntry.objects.get()
        assert (entry.state, entry.outcome_code) == (State.SCHEDULED, WORKER_LOST)

        def come_back() -> None:
            gate.open()
            wait_for_end()

        try:
            yield come_back
        finally:
            gate.open()


def kinds() -> list[str]:
    """List the kinds of all attempts, in the order they were written."""
    return list(Attempt.objects.order_by("pk").values_list("kind", flat=True))


def test_a_late_success_settles_an_entry_that_was_rescued(provider: Provider):
    with a_worker_given_up(provider, Gate()) as come_back:
        come_back()

    entry = OutboxEntry.objects.get()
    assert (entry.state, entry.attempts, entry.claim_id) == (State.SENT, 1, None)
    assert kinds() == [Kind.AMBIGUOUS, Kind.SENT]
    assert len(provider.accepted) == 1


def expire(entry: OutboxEntry) -> None:
    """Let the time of the entry be over."""
    OutboxEntry.objects.filter(pk=entry.pk).update(expires_at=Now() - timedelta(seconds=1))
    drain()


def give_up(entry: OutboxEntry) -> None:
    """Let the next attempt be refused for good."""
    ScriptedBackend.providers["default"].will(REFUSED)
    OutboxEntry.objects.filter(pk=entry.pk).update(due_at=Now() - timedelta(seconds=1))
    drain()


@pytest.mark.parametrize(
    ("meanwhile", "state"),
    [
        pytest.param(outbox.cancel, State.CANCELLED, id="cancel"),
        pytest.param(lambda entry: outbox.hold(entry, reason="to be looked at"), State.HELD, id="hold"),
        pytest.param(lambda entry: outbox.hold(entry, reason="x") and outbox.retry(entry), State.QUEUED, id="retry"),
        pytest.param(lambda entry: outbox.cancel(entry) and outbox.resend(entry), State.CANCELLED, id="resend"),
        pytest.param(expire, State.EXPIRED, id="expire"),
        pytest.param(give_up, State.FAILED, id="failure"),
    ],
)
def test_a_late_success_stands_whatever_has_been_done_meanwhile(
    provider: Provider, meanwhile: Callable[[OutboxEntry], object], state: State
):
    with a_worker_given_up(provider, Gate()) as come_back:
        entry = OutboxEntry.objects.get()
        meanwhile(entry)
        entry.refresh_from_db()
        assert entry.state == state

        come_back()

    entry.refresh_from_db()
    assert (entry.state, entry.state_reason, entry.outcome_kind) == (State.SENT, "", Kind.SENT)
    assert entry.finished_at is not None
    assert set(entry.recipients.values_list("status", flat=True)) == {"accepted"}
    assert Kind.SENT in entry.attempt_set.values_list("kind", flat=True)
    # A resend is a message of its own, and waits for its own turn.
    assert not OutboxEntry.objects.exclude(pk=entry.pk).exclude(state=State.QUEUED).exists()


def test_what_is_being_sent_cannot_be_cancelled_and_its_success_lands(provider: Provider):
    gate = Gate()
    provider.will(gate)
    entry = outbox.enqueue(a_message())
    with beside(drain) as wait_for_end:
        gate.wait_until_reached()
        try:
            assert outbox.cancel(entry) == 0
        finally:
            gate.open()
        wait_for_end()

    entry.refresh_from_db()
    assert entry.state == State.SENT


@pytest.mark.parametrize("failure", [TRY_LATER, REFUSED, NOBODY_KNOWS], ids=["transient", "permanent", "ambiguous"])
def test_a_late_failure_changes_nothing(provider: Provider, failure: Exception):
    with a_worker_given_up(provider, Gate(then=failure)) as come_back:
        before = OutboxEntry.objects.values().get()
        come_back()

    assert OutboxEntry.objects.values().get() == before
    assert kinds()[0] == Kind.AMBIGUOUS


def test_a_late_failure_is_on_record(provider: Provider):
    with a_worker_given_up(provider, Gate(then=TRY_LATER)) as come_back:
        come_back()

    assert kinds() == [Kind.AMBIGUOUS, Kind.TRANSIENT]


def state_in_between(provider: Provider, *, first: Gate, second: Gate) -> str:
    """Let the first attempt come back in the middle of the second; return what the entry was before that ended, too."""
    with a_worker_given_up(provider, first) as come_back:
        provider.will(second)
        OutboxEntry.objects.update(due_at=Now() - timedelta(seconds=1))
        with beside(drain):
            second.wait_until_reached()
            come_back()
            state = OutboxEntry.objects.get().state
            second.open()
    return state


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param(None, [Kind.AMBIGUOUS, Kind.SENT, Kind.SENT], id="success"),
        pytest.param(REFUSED, [Kind.AMBIGUOUS, Kind.SENT, Kind.PERMANENT], id="failure"),
    ],
)
def test_a_late_success_stands_whatever_the_second_attempt_comes_to(
    provider: Provider, second: Exception | None, expected: list[Kind]
):
    assert state_in_between(provider, first=Gate(), second=Gate(then=second)) == State.SENT

    entry = OutboxEntry.objects.get()
    assert (entry.state, entry.attempts) == (State.SENT, 2)
    assert kinds() == expected


def test_a_late_failure_leaves_the_second_attempt_alone(provider: Provider):
    assert state_in_between(provider, first=Gate(then=REFUSED), second=Gate()) == State.SENDING

    assert OutboxEntry.objects.get().state == State.SENT
    assert len(provider.accepted) == 1
