"""What else there is to HTTP: proxies, waits, deadlines, connections. The tables are played in tests/faults."""

import socket
import time
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any

import pytest
import requests

from mail_outbox.core.outcomes import Kind, Outcome
from mail_outbox.delivery import answers
from tests.delivery.conftest import OpenLine, a_message, a_parcel
from tests.delivery.esps import MAILGUN_OK, POSTMARK_OK
from tests.faults import HANGS
from tests.faults.http_server import Answer, HTTPFaultServer


def agree(outcome: Outcome, server: HTTPFaultServer) -> None:
    """Assert that the outcome does not contradict what the server accepted."""
    if outcome.kind is not Kind.AMBIGUOUS:
        assert len(server.journal) == (outcome.kind in (Kind.SENT, Kind.PARTIAL)), outcome


def test_a_host_without_an_address_is_the_mailers_trouble(esp_line: OpenLine, monkeypatch: pytest.MonkeyPatch):
    def no_such_host(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr("socket.getaddrinfo", no_such_host)
    with HTTPFaultServer() as server:
        line = esp_line("mailgun", server, api_url="http://api.invalid/")
        outcome = line.deliver(a_parcel())
        monkeypatch.undo()

    assert (outcome.kind, outcome.code) == (Kind.MAILER, "dns")


@pytest.mark.parametrize(
    ("action", "kind"), [(None, Kind.SENT), ("drop", Kind.AMBIGUOUS), (Answer(401, {"m": 1}), Kind.MAILER)]
)
def test_behind_a_proxy_connections_are_not_watched_and_answers_are_read(
    esp_line: OpenLine, monkeypatch: pytest.MonkeyPatch, action: Any, kind: Kind
):
    with HTTPFaultServer(action, default=POSTMARK_OK) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        outcome = esp_line("postmark", proxy, api_url="http://api.invalid/").deliver(a_parcel())

    assert outcome.kind is kind, outcome
    agree(outcome, proxy)


def test_a_session_asks_the_environment_once_and_keeps_to_its_proxy(
    esp_line: OpenLine, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []
    get_environ_proxies = requests.sessions.get_environ_proxies

    def ask(url: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(url)
        return get_environ_proxies(url, *args, **kwargs)

    monkeypatch.setattr("requests.sessions.get_environ_proxies", ask)
    with HTTPFaultServer(default=POSTMARK_OK) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        line = esp_line("postmark", proxy, api_url="http://api.invalid/")
        kinds = [line.deliver(a_parcel()).kind for _ in range(3)]

    assert kinds == [Kind.SENT] * 3
    assert {request.path.partition("invalid")[0] for request in proxy.journal} == {"http://api."}
    assert len(asked) == 1


def test_a_request_leaves_in_one_piece_but_for_what_is_large(esp_line: OpenLine, monkeypatch: pytest.MonkeyPatch):
    pieces: list[int] = []
    send = HTTPConnection.send

    def note(self: HTTPConnection, data: Any) -> None:
        pieces.append(len(data))
        send(self, data)

    monkeypatch.setattr(HTTPConnection, "send", note)
    with HTTPFaultServer(default=POSTMARK_OK) as server:
        line = esp_line("postmark", server)
        line.deliver(a_parcel())
        few = len(pieces)
        line.deliver(a_parcel(a_message(body="x" * 40_000)))

    assert few == 1
    assert len(pieces) == few + 3
    assert len(server.journal) == 2


def test_a_proxy_that_cannot_be_reached_was_sent_nothing(esp_line: OpenLine, monkeypatch: pytest.MonkeyPatch):
    with HTTPFaultServer() as proxy:
        pass
    monkeypatch.setenv("http_proxy", proxy.url)

    outcome = esp_line("postmark", proxy, api_url="http://api.invalid/").deliver(a_parcel())

    assert (outcome.kind, outcome.code) == (Kind.MAILER, "connect")


def test_the_providers_id_is_kept_as_it_is(esp_line: OpenLine):
    with HTTPFaultServer(default=MAILGUN_OK) as server:
        outcome = esp_line("mailgun", server).deliver(a_parcel())

    assert outcome.provider_message_id == "<mg-1@example.com>"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "0"}, 1),
        ({"Retry-After": "-5"}, 1),
        ({"Retry-After": "soon"}, 1),
        ({"Retry-After": "999999"}, 3600),
        ({"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT"}, 30),
        ({"Retry-After": "Fri, 20 Nov 2026 11:00:00 GMT"}, 1),
        ({"X-RateLimit-Reset": "1795176060"}, 60),
        ({"x-sib-ratelimit-reset": "42"}, 42),
        ({"ratelimit-reset": "1.5"}, 1.5),
        ({"Retry-After": "7", "X-RateLimit-Reset": "42"}, 7),
        ({}, None),
    ],
)
def test_how_long_a_provider_asks_to_wait(headers: dict[str, str], seconds: float | None):
    now = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()

    wait = answers.retry_after(headers, now=now)

    assert wait == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(("status", "wait"), [(429, 7), (503, 7), (400, None)])
def test_a_wait_is_part_of_the_outcome(esp_line: OpenLine, status: int, wait: int | None):
    with HTTPFaultServer(Answer(status, {"m": 1}, {"Retry-After": "7"})) as server:
        outcome = esp_line("postmark", server).deliver(a_parcel())

    given = getattr(outcome, "retry_after", None) or getattr(outcome, "not_before", None)
    assert given == (timedelta(seconds=wait) if wait else None)


class TestDeadline:
    """A provider that takes its time is left in time."""

    @pytest.mark.parametrize("action", ["accept-then-hang", ("slow", 0.05)], ids=["hang", "trickle"])
    def test_it_ends_a_wait(self, esp_line: OpenLine, action: Any):
        with HTTPFaultServer(action, default=POSTMARK_OK) as server:
            line = esp_line("postmark", server)
            started = time.monotonic()
            outcome = line.deliver(a_parcel(seconds=1.5))
            took = time.monotonic() - started

        assert (outcome.kind, outcome.code) == (Kind.AMBIGUOUS, "deadline")
        assert 0.4 < took < HANGS

    def test_it_is_looked_at_right_before_the_request(self, esp_line: OpenLine, monkeypatch: pytest.MonkeyPatch):
        def dawdle(self: Any, message: Any) -> bool:
            time.sleep(0.25)
            return True

        monkeypatch.setattr("anymail.backends.base.AnymailBaseBackend.run_pre_send", dawdle)
        with HTTPFaultServer(default=POSTMARK_OK) as server:
            outcome = esp_line("postmark", server).deliver(a_parcel(seconds=0.2))

        assert (outcome.kind, outcome.code) == (Kind.TRANSIENT, "deadline")
        assert server.connections == 0


class TestConnection:
    """One session is kept, and given up when nobody knows what is on it."""

    def test_it_is_kept(self, esp_line: OpenLine):
        answers = [None, Answer(400, {"m": 1}), Answer(500, {"m": 1}), None]
        with HTTPFaultServer(answers, default=POSTMARK_OK) as server:
            line = esp_line("postmark", server)
            kinds = [line.deliver(a_parcel()).kind for _ in answers]
            line.close()

        assert kinds == [Kind.SENT, Kind.PERMANENT, Kind.TRANSIENT, Kind.SENT]
        assert server.connections == 1

    def test_it_is_given_up_when_the_answer_is_lost(self, esp_line: OpenLine):
        with HTTPFaultServer(["accept-then-hang"], default=POSTMARK_OK) as server:
            line = esp_line("postmark", server, timeout=2.0)
            assert line.deliver(a_parcel()).kind is Kind.AMBIGUOUS
            assert not line.is_open
            assert line.deliver(a_parcel()).kind is Kind.SENT

        assert server.connections == 2

    def test_a_large_request_and_a_large_answer_pass_unharmed(self, esp_line: OpenLine):
        big = Answer(200, {"ErrorCode": 0, "Message": "OK", "MessageID": "pm-1", "Padding": "x" * 300_000})
        with HTTPFaultServer(default=big) as server:
            outcome = esp_line("postmark", server).deliver(a_parcel(a_message(body="y" * 1_000_000)))

        assert outcome.kind is Kind.SENT
        assert server.journal[0].json()["TextBody"] == "y" * 1_000_000
