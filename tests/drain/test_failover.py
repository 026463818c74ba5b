"""Failover between two real mail servers: what each of them has really accepted."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from mail_outbox import outbox
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from mail_outbox.drain import DrainResult
from mail_outbox.models import Attempt, OutboxEntry, Recipient
from tests.delivery.conftest import BIG
from tests.delivery.esps import MAILGUN_OK
from tests.faults.http_server import Answer, HTTPFaultServer
from tests.faults.smtp_server import SMTPFaultServer
from tests.support import a_message, mailers

pytestmark = [pytest.mark.fault, pytest.mark.django_db]

COUNT = 30
PAST = "2020-01-01T00:00:00Z"


@dataclass(frozen=True)
class Servers:
    """The servers of a route's two mailers; the first has a script."""

    first: SMTPFaultServer
    second: SMTPFaultServer

    @property
    def accepted(self) -> tuple[int, int]:
        """Count what each has accepted."""
        return len(self.first.journal), len(self.second.journal)


def smtp(server: SMTPFaultServer, **options: Any) -> dict[str, Any]:
    return {
        "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "OPTIONS": {"host": server.host, "port": server.port, "timeout": 5, **options},
    }


@contextmanager
def failing(script: dict[str, Any], **login: str) -> Iterator[Servers]:
    """Run two servers behind the route `main`, of which the first does what the script says."""
    with SMTPFaultServer(script) as first, SMTPFaultServer() as second:
        configured = {"first": smtp(first, **login), "second": smtp(second)}
        with mailers(configured, ROUTES={"main": ["first", "second"]}):
            yield Servers(first, second)


def send(count: int = 1, **keywords: Any) -> DrainResult:
    """Enqueue so many mails by the route, and drain."""
    outbox.enqueue_many((a_message(f"mail {number}", **keywords) for number in range(count)), using="main")
    return outbox.drain()


def attempts() -> list[tuple[str, str]]:
    return list(Attempt.objects.order_by("pk").values_list("using", "kind"))


def test_a_first_that_refuses_connections_leaves_all_mail_to_the_second():
    with SMTPFaultServer() as gone:
        pass
    with SMTPFaultServer() as second:
        configured = {"first": smtp(gone), "second": smtp(second)}
        with mailers(configured, ROUTES={"main": ["first", "second"]}):
            result = send(COUNT)

    assert result.sent == COUNT
    assert Counter(accepted.header("Subject") for accepted in second.journal) == {f"mail {n}": 1 for n in range(COUNT)}
    assert set(OutboxEntry.objects.values_list("state", "using", "attempts")) == {(State.SENT, "second", 1)}
    assert Counter(attempts()).keys() == {("first", Kind.MAILER), ("second", Kind.SENT)}


@pytest.mark.parametrize(
    ("script", "login", "kind"),
    [
        pytest.param({"connect": "421 4.3.2 too busy"}, {}, Kind.THROTTLED, id="banner 421"),
        pytest.param({"connect": "450 4.3.2 not now"}, {}, Kind.TRANSIENT, id="banner 450"),
        pytest.param({"connect": "drop"}, {}, Kind.MAILER, id="drop at the banner"),
        pytest.param(
            {"auth": "535 5.7.8 bad credentials"}, {"username": "shop", "password": "s"}, Kind.MAILER, id="AUTH 535"
        ),
        pytest.param({"ehlo": "drop"}, {}, Kind.TRANSIENT, id="drop at EHLO"),
        pytest.param({"mail": "421 4.7.0 slow down"}, {}, Kind.THROTTLED, id="MAIL 421"),
        pytest.param({"mail": "452 4.3.1 insufficient storage"}, {}, Kind.TRANSIENT, id="MAIL 452"),
        pytest.param({"rcpt": "drop"}, {}, Kind.TRANSIENT, id="drop at RCPT"),
        pytest.param({"data": "drop"}, {}, Kind.TRANSIENT, id="drop before 354"),
        pytest.param({"dot": "421 4.3.2 shutting down"}, {}, Kind.THROTTLED, id="421 after the dot"),
    ],
)
def test_what_fails_before_the_hand_over_leaves_at_once_through_the_second(
    script: dict[str, Any], login: dict[str, str], kind: Kind
):
    with failing(script, **login) as servers:
        send(COUNT)

    assert servers.accepted == (0, COUNT)
    assert set(OutboxEntry.objects.values_list("state", "using")) == {(State.SENT, "second")}
    assert {kind for using, kind in attempts() if using == "second"} == {Kind.SENT}
    first = Counter(kind for using, kind in attempts() if using == "first")
    assert first.keys() == {kind}
    # From the fifth failure in a row on the first rests; the other senders are at it already.
    assert kind is not Kind.TRANSIENT or 5 <= first[kind] <= 4 + 8


def test_cut_in_the_body_it_leaves_through_the_second():
    with failing({"body": "drop"}) as servers:
        # More than fits between the two, so that the dot cannot have left.
        send(2, attachments=[("big.txt", BIG[:8_000_000], "text/plain")])

    assert servers.accepted == (0, 2)
    assert Counter(attempts()) == {("first", Kind.TRANSIENT): 2, ("second", Kind.SENT): 2}


@pytest.mark.parametrize("cut", ["drop", "accept-then-drop", "accept-then-rst"])
def test_cut_after_the_dot_it_is_ambiguous_and_never_failed_over(cut: str):
    with failing({"dot": [cut]}) as servers:
        send()
        entry = OutboxEntry.objects.get()
        assert (entry.state, entry.using) == (State.SCHEDULED, "first")
        assert attempts() == [("first", Kind.AMBIGUOUS)]

        # Not even later, and not where the first is paused meanwhile.
        OutboxEntry.objects.update(due_at=PAST)
        outbox.pause("first")
        outbox.drain()
        assert not servers.second.journal

        outbox.resume("first")
        outbox.drain()

    assert attempts() == [("first", Kind.AMBIGUOUS), ("first", Kind.SENT)]
    assert servers.accepted == ((1 if cut == "drop" else 2), 0)
    assert len({accepted.message_id for accepted in servers.first.journal}) == 1


def test_cut_after_the_dot_it_waits_for_a_person_under_hold():
    with failing({"dot": "accept-then-drop"}) as servers:
        outbox.enqueue(a_message(), using="main", on_ambiguous="hold")
        outbox.drain()
        outbox.drain()

    assert servers.accepted == (1, 0)
    assert OutboxEntry.objects.get().state == State.HELD


@pytest.mark.parametrize(
    ("script", "state"),
    [
        pytest.param({"rcpt": "550 5.1.1 unknown user"}, State.FAILED, id="RCPT 550"),
        pytest.param({"rcpt": "450 4.2.0 greylisted"}, State.SCHEDULED, id="RCPT 450"),
        pytest.param({"mail": "550 5.7.1 not this sender"}, State.FAILED, id="MAIL 550"),
        pytest.param({"data": "451 4.7.1 greylisted"}, State.SCHEDULED, id="DATA 451"),
        pytest.param({"dot": "451 4.3.0 later"}, State.SCHEDULED, id="451 after the dot"),
        pytest.param({"dot": "554 5.6.0 no"}, State.FAILED, id="554 after the dot"),
    ],
)
def test_a_refusal_stays_with_the_first(script: dict[str, Any], state: State):
    with failing(script) as servers:
        send()

    assert servers.accepted == (0, 0)
    assert not servers.second.connections
    assert set(OutboxEntry.objects.values_list("state", "using")) == {(state, "first")}


def test_one_recipient_refused_for_good_moves_nothing():
    with failing({"rcpt": {"gone@example.com": "550 5.1.1 unknown user"}}) as servers:
        send(COUNT, to=["jane@example.com", "gone@example.com"])

    assert servers.accepted == (COUNT, 0)
    assert set(OutboxEntry.objects.values_list("state", "using")) == {(State.SENT, "first")}


def test_whoever_has_it_is_never_addressed_again_by_another():
    refusals = {"late@example.com": ["450 4.2.0 greylisted"]}
    with failing({"rcpt": refusals, "mail": [None, "452 4.3.1 insufficient storage"]}) as servers:
        send(to=["jane@example.com", "late@example.com"])
        OutboxEntry.objects.update(due_at=PAST)
        # The server's own trouble, which would move any other entry on.
        outbox.drain()
        OutboxEntry.objects.update(due_at=PAST)
        outbox.drain()

    assert [accepted.recipients for accepted in servers.first.journal] == [("jane@example.com",), ("late@example.com",)]
    assert not servers.second.journal
    assert [kind for _, kind in attempts()] == [Kind.PARTIAL, Kind.TRANSIENT, Kind.SENT]


def test_the_second_does_not_ask_for_whom_the_first_has_refused_for_good():
    script = {"rcpt": {"gone@example.com": "550 5.1.1 unknown user"}, "data": "drop"}
    with failing(script) as servers:
        send(to=["jane@example.com", "gone@example.com"])

    assert [accepted.recipients for accepted in servers.second.journal] == [("jane@example.com",)]
    assert dict(Recipient.objects.values_list("address", "status")) == {
        "jane@example.com": "accepted",
        "gone@example.com": "refused",
    }


@pytest.mark.parametrize(
    ("action", "accepted"),
    [
        pytest.param(Answer(503, {"message": "maintenance"}), 1, id="503"),
        pytest.param(Answer(500, {"message": "oops"}), 1, id="500"),
        pytest.param(Answer(429, {"message": "slow down"}), 1, id="429"),
        pytest.param(Answer(401, {"message": "bad key"}), 1, id="401"),
        pytest.param(Answer(400, {"message": "bad address"}), 0, id="400"),
        pytest.param(Answer(409, {"message": "in progress"}), 0, id="409"),
        pytest.param(Answer(502, {"message": "bad gateway"}), 0, id="502"),
        pytest.param("accept-then-drop", 0, id="cut after the post"),
    ],
)
def test_from_an_http_provider_only_its_own_trouble_moves_on(
    monkeypatch: pytest.MonkeyPatch, action: Any, accepted: int
):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with HTTPFaultServer(action, default=MAILGUN_OK) as first, SMTPFaultServer() as second:
        options = {"api_key": "k", "sender_domain": "example.com", "api_url": first.url}
        mailgun = {"BACKEND": "anymail.backends.mailgun.EmailBackend", "OPTIONS": options}
        with mailers({"first": mailgun, "second": smtp(second)}, ROUTES={"main": ["first", "second"]}):
            send()

    assert len(second.journal) == accepted
    assert OutboxEntry.objects.get().using == ("second" if accepted else "first")
