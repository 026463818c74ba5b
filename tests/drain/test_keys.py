"""Where the provider recognises a repetition, an attempt with an unknown end is repeated, and doubles nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import F

from mail_outbox import outbox, transitions
from mail_outbox.conf import get_conf
from mail_outbox.core.pseudonyms import Person
from mail_outbox.core.states import State
from mail_outbox.drain.work import policy_of
from mail_outbox.models import Attempt, OutboxEntry
from tests.faults.http_server import Answer, HTTPFaultServer, Request
from tests.support import a_message, age, mailers

pytestmark = pytest.mark.django_db

PAST = "2020-01-01T00:00:00Z"
DAY = timedelta(days=1)
ALWAYS = frozenset(range(1, 100))


class Resend(HTTPFaultServer):
    """Accepts everything, and loses the answers to the requests of these numbers."""

    def __init__(self, lost: frozenset[int]) -> None:
        super().__init__(self.decide, default=Answer(200, {"id": "re-1"}))
        self.lost = lost
        self.keys: list[str] = []

    def decide(self, request: Request) -> Any:
        """Give the answer, or lose it."""
        self.keys.append(request.headers["idempotency-key"])
        return "accept-then-drop" if len(self.keys) in self.lost else None


def mailer(esp: str, server: HTTPFaultServer, **options: Any) -> dict[str, Any]:
    """Return the mailer that talks to the server as to this provider."""
    url = {"api_url": server.url, "timeout": 5}
    return {"BACKEND": f"anymail.backends.{esp}.EmailBackend", "OPTIONS": {**url, **options}}


@contextmanager
def resend(*lost: int) -> Iterator[Resend]:
    """Let the mailer `default` be Resend; `other` is another account there."""
    with Resend(frozenset(lost) or ALWAYS) as server:
        account = mailer("resend", server, api_key="k")
        with mailers({"default": account, "other": account}):
            yield server


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def drain(entry: OutboxEntry) -> str:
    """Drain as if the entry had become due, and return its state."""
    OutboxEntry.objects.filter(pk=entry.pk, state=State.SCHEDULED).update(due_at=PAST)
    outbox.drain()
    entry.refresh_from_db()
    return entry.state


def let_a_day_pass(entry: OutboxEntry) -> None:
    """Move all that is known of the entry a day into the past."""
    Attempt.objects.filter(entry=entry).update(started_at=F("started_at") - DAY)
    age(entry, first_due_at=-DAY, recognised_until=-DAY)


def an_entry(**options: Any) -> OutboxEntry:
    """Enqueue a mail that must not be doubled."""
    return outbox.enqueue(a_message(), **{"on_ambiguous": "hold", **options})


@pytest.mark.parametrize("policy", ["hold", "retry"])
def test_an_answer_that_was_lost_is_asked_for_once_more(policy: str):
    with resend(1) as server:
        entry = an_entry(on_ambiguous=policy)

        assert drain(entry) == State.SCHEDULED
        assert entry.recognised_until is not None
        assert entry.due_at < entry.recognised_until
        assert drain(entry) == State.SENT

    assert len(server.keys) == 2
    assert len(set(server.keys)) == 1


def test_the_provider_that_refuses_a_repetition_has_the_message():
    used = Answer(400, {"code": "duplicate_parameter", "message": "idempotencyKey already exists"})
    with (
        HTTPFaultServer(["accept-then-drop", used]) as server,
        mailers({"default": mailer("brevo", server, api_key="k")}),
    ):
        entry = an_entry()

        assert [drain(entry), drain(entry)] == [State.SCHEDULED, State.SENT]

    assert len(server.journal) == 1


def test_a_key_that_a_refused_attempt_may_have_taken_does_not_say_that_the_message_arrived():
    down = Answer(500, {"code": "internal_error", "message": "try again"})
    used = Answer(400, {"code": "duplicate_parameter", "message": "idempotencyKey already exists"})
    with (
        HTTPFaultServer(["drop", down, used]) as server,
        mailers({"default": mailer("brevo", server, api_key="k")}),
    ):
        entry = an_entry()

        assert [drain(entry) for _ in range(3)] == [State.SCHEDULED] * 3

    kinds = Attempt.objects.filter(entry=entry).order_by("number").values_list("kind", flat=True)
    assert list(kinds) == ["ambiguous", "transient", "ambiguous"]
    assert not server.journal


def test_while_the_provider_recognises_them_repetitions_are_not_counted():
    with resend():
        entry = an_entry(on_ambiguous="retry")

        assert [drain(entry) for _ in range(6)] == [State.SCHEDULED] * 6

        let_a_day_pass(entry)
        assert [drain(entry) for _ in range(3)] == [State.SCHEDULED, State.SCHEDULED, State.HELD]


def test_once_the_provider_has_forgotten_the_key_nothing_is_sent_again():
    with resend() as server:
        entry = an_entry()
        drain(entry)
        let_a_day_pass(entry)

        assert drain(entry) == State.HELD

    assert (entry.state_reason, entry.attempts) == ("ambiguous", 1)
    assert len(server.keys) == 1


def test_another_mailer_does_not_get_what_may_be_out_at_the_first():
    with resend(1) as server:
        entry = an_entry()
        drain(entry)
        OutboxEntry.objects.update(using="other")

        assert drain(entry) == State.HELD

    assert len(server.keys) == 1


@pytest.mark.parametrize("send_at", [DAY, datetime.now(UTC) + DAY], ids=["delay", "moment"])
def test_nor_what_was_put_off_before_it_is_repeated(send_at: datetime | timedelta):
    with resend(1) as server:
        entry = an_entry()
        drain(entry)
        outbox.reschedule(entry, send_at=send_at)
        outbox.change_mailer(entry, using="other")

        assert drain(entry) == State.HELD

    assert len(server.keys) == 1


def test_what_is_held_and_given_another_time_goes_then():
    with resend(1) as server:
        entry = an_entry()
        drain(entry)
        outbox.hold(entry, reason="to be looked at")
        outbox.reschedule(entry, send_at=timedelta(0))

        assert drain(entry) == State.SENT

    assert len(server.keys) == 2


def test_a_mailer_that_has_become_another_does_not_get_it_either():
    with resend(1) as server:
        entry = an_entry()
        drain(entry)
        with mailers({"default": mailer("postmark", server, server_token="t")}):
            assert drain(entry) == State.HELD

    assert len(server.requests) == 1


@pytest.mark.parametrize("verb", [outbox.retry, outbox.release])
def test_a_person_may_send_it_again_all_the_same(verb: Any):
    with resend(1) as server:
        entry = an_entry()
        drain(entry)
        let_a_day_pass(entry)
        drain(entry)

        verb(entry)

        assert drain(entry) == State.SENT
    assert len(set(server.keys)) == 1


def test_what_a_person_sends_again_is_not_taken_for_the_first_time():
    with resend() as server:
        entry = an_entry()
        drain(entry)
        let_a_day_pass(entry)
        drain(entry)
        outbox.retry(entry)

        assert drain(entry) == State.HELD
    assert len(server.keys) == 2


@pytest.mark.parametrize(("policy", "state"), [("hold", State.HELD), ("retry", State.SENT)])
def test_who_was_left_out_when_the_answer_was_lost_is_written_to_under_another_key(policy: str, state: str):
    with resend(1) as server:
        entry = outbox.enqueue(a_message(to=["ann@example.com", "bob@example.com"]), on_ambiguous=policy)
        outbox.suppress("bob@example.com")
        drain(entry)
        outbox.unsuppress("bob@example.com")

        assert drain(entry) == state

    assert len(server.journal) == len(set(server.keys)) == (1 if policy == "hold" else 2)


def test_without_a_person_who_was_erased_it_is_another_message_than_the_one_that_may_be_out():
    with resend(1) as server:
        entry = outbox.enqueue(a_message(to=["ann@example.com", "bob@example.com"]), on_ambiguous="hold")
        drain(entry)
        bob = Person(address="bob@example.com", pseudonym="nobody")
        transitions.erase_entries([entry.pk], bob, dry_run=False, database="default")

        assert drain(entry) == State.HELD

    assert len(server.journal) == 1


def test_a_resend_is_another_message_to_the_provider():
    with resend(99) as server:
        entry = an_entry()
        drain(entry)
        drain(outbox.resend(entry))

    assert len(set(server.keys)) == 2


class TestLostWorkers:
    def lose_worker(self, entry: OutboxEntry) -> None:
        """Let a worker claim the entry and never say what became of it."""
        OutboxEntry.objects.filter(pk=entry.pk).update(state=State.QUEUED)
        transitions.claim(
            "default", 1, claim_id=uuid4(), worker="lost", lease=timedelta(minutes=-1), database="default"
        )
        conf = get_conf()
        transitions.rescue(policy_of=lambda each: policy_of(each, conf), luck=lambda: 1.0, database="default")
        entry.refresh_from_db()

    def test_over_a_repetition_they_are_no_reason_to_hold_it(self):
        with resend(1):
            entry = an_entry()
            drain(entry)

            self.lose_worker(entry)

            assert entry.state == State.SCHEDULED
            assert drain(entry) == State.SENT

    def test_over_the_first_attempt_nobody_knows_what_the_provider_recognises(self):
        with resend(1):
            entry = an_entry(on_ambiguous="retry")
            self.lose_worker(entry)

            assert drain(entry) == State.SCHEDULED
            assert entry.recognised_until is None
