"""Every row of the HTTP table, played with Anymail's own backends against a server that knows what it accepted."""

import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mail_outbox.core.outcomes import Kind, Outcome
from mail_outbox.delivery import answers
from tests.delivery.conftest import OpenLine, a_message, a_parcel
from tests.delivery.esps import HTML, MAILGUN_OK, POSTMARK_OK
from tests.faults.http_server import Answer, HTTPFaultServer
from tests.faults.smtp_server import SMTPFaultServer


def agree(outcome: Outcome, server: HTTPFaultServer) -> None:
    """Assert that the outcome does not contradict what the server accepted."""
    if outcome.kind is not Kind.AMBIGUOUS:
        assert len(server.journal) == (outcome.kind in (Kind.SENT, Kind.PARTIAL)), outcome


GENERIC: list[tuple[str, Any, Kind, str]] = [
    ("nothing", None, Kind.SENT, "200"),
    ("dropped before the body is read", "drop-before-body", Kind.AMBIGUOUS, "disconnected"),
    ("dropped, not accepted", "drop", Kind.AMBIGUOUS, "disconnected"),
    ("dropped, accepted", "accept-then-drop", Kind.AMBIGUOUS, "disconnected"),
    ("reset, accepted", "accept-then-rst", Kind.AMBIGUOUS, "disconnected"),
    ("hang", "accept-then-hang", Kind.AMBIGUOUS, "timeout"),
    ("answer cut short", "accept-then-cut", Kind.AMBIGUOUS, "network"),
    ("unreadable answer", Answer(200, "certainly!"), Kind.AMBIGUOUS, "unreadable"),
    ("unexpected answer", Answer(200, {"hello": 1}), Kind.AMBIGUOUS, "unreadable"),
    ("429", Answer(429, {"Message": "slow"}), Kind.THROTTLED, "429"),
    ("420", Answer(420, {"Message": "slow"}), Kind.THROTTLED, "420"),
    *((f"{status}", Answer(status, {"Message": "no"}), Kind.MAILER, f"{status}") for status in (401, 402, 403, 404)),
    *((f"{status}", Answer(status, {"Message": "no"}), Kind.MAILER, f"{status}") for status in (405, 406, 407, 451)),
    *((f"{status}", Answer(status, {"Message": "no"}), Kind.TRANSIENT, f"{status}") for status in (408, 409, 425)),
    *((f"{status}", Answer(status, {"Message": "no"}), Kind.PERMANENT, f"{status}") for status in (400, 413, 415)),
    ("500 by the provider", Answer(500, {"Message": "oops"}), Kind.TRANSIENT, "500"),
    ("503 by the provider", Answer(503, {"Message": "oops"}), Kind.TRANSIENT, "503"),
    ("500 by somebody else", Answer(500, HTML), Kind.AMBIGUOUS, "500"),
    ("503 by somebody else", Answer(503, HTML), Kind.AMBIGUOUS, "503"),
    ("502", Answer(502, {"Message": "oops"}), Kind.AMBIGUOUS, "502"),
    ("504", Answer(504, HTML), Kind.AMBIGUOUS, "504"),
    ("522", Answer(522, HTML), Kind.AMBIGUOUS, "522"),
]


@pytest.mark.parametrize(("action", "kind", "code"), [pytest.param(*row[1:], id=row[0]) for row in GENERIC])
def test_what_the_provider_does_decides_the_outcome(esp_line: OpenLine, action: Any, kind: Kind, code: str):
    with HTTPFaultServer(action, default=MAILGUN_OK) as server:
        line = esp_line("mailgun", server, timeout=0.3 if action == "accept-then-hang" else 5)
        outcome = line.deliver(a_parcel())
        line.close()

    assert (outcome.kind, outcome.code) == (kind, code), outcome
    agree(outcome, server)


PER_ESP: list[tuple[str, Answer, Kind]] = [
    ("mailgun", Answer(200, "Mailgun Magnificent API"), Kind.MAILER),
    ("mailgun", Answer(404, "Domain not found: x"), Kind.MAILER),
    ("postmark", Answer(422, {"ErrorCode": 429, "Message": "Rate limit"}), Kind.THROTTLED),
    ("postmark", Answer(422, {"ErrorCode": 400, "Message": "Sender not found"}), Kind.MAILER),
    ("postmark", Answer(422, {"ErrorCode": 405, "Message": "Not allowed to send"}), Kind.MAILER),
    ("postmark", Answer(422, {"ErrorCode": 100, "Message": "Maintenance"}), Kind.TRANSIENT),
    ("postmark", Answer(422, {"ErrorCode": 300, "Message": "Invalid 'To' address: 'x'."}), Kind.PERMANENT),
    ("postmark", Answer(422, {"ErrorCode": 406, "Message": "reworded"}), Kind.PERMANENT),
    ("postmark", Answer(422, {"ErrorCode": 411, "Message": "Attachment type"}), Kind.PERMANENT),
    ("mailjet", Answer(400, {"Messages": [{"Status": "error", "Errors": []}]}), Kind.PERMANENT),
    ("mailjet", Answer(401, {"ErrorMessage": "no", "Messages": []}), Kind.MAILER),
    ("mailersend", Answer(422, {"message": "no"}), Kind.PERMANENT),
    ("mailersend", Answer(202, "", {"Content-Type": "text/html"}), Kind.TRANSIENT),
    ("postal", Answer(200, {"status": "error", "data": {"code": "InvalidServerAPIKey"}}), Kind.MAILER),
    ("postal", Answer(200, {"status": "parameter-error", "data": {}}), Kind.PERMANENT),
    ("mandrill", Answer(500, {"status": "error", "name": "Invalid_Key"}), Kind.MAILER),
    ("mandrill", Answer(500, {"status": "error", "name": "ValidationError"}), Kind.PERMANENT),
    ("mandrill", Answer(500, {"status": "error", "name": "GeneralError"}), Kind.TRANSIENT),
    ("mandrill", Answer(200, []), Kind.PERMANENT),
    ("resend", Answer(429, {"name": "daily_quota_exceeded"}), Kind.THROTTLED),
    ("resend", Answer(409, {"name": "concurrent_idempotent_requests"}), Kind.TRANSIENT),
    ("resend", Answer(409, {"name": "invalid_idempotent_request"}), Kind.PERMANENT),
    ("mailtrap", Answer(200, {"success": False, "errors": ["no"]}), Kind.PERMANENT),
    (
        "unisender_go",
        Answer(200, {"status": "success", "emails": [], "failed_emails": {"ann@example.com": "temporary_unavailable"}}),
        Kind.TRANSIENT,
    ),
    ("unisender_go", Answer(200, {"status": "success"}), Kind.AMBIGUOUS),
    (
        "scaleway",
        Answer(200, {"emails": [{"mail_rcpt": "ann@example.com", "id": "s", "status": "failed"}]}),
        Kind.TRANSIENT,
    ),
    (
        "sparkpost",
        Answer(200, {"results": {"total_accepted_recipients": 1, "total_rejected_recipients": 1, "id": "x"}}),
        Kind.SENT,
    ),
    ("brevo", Answer(402, {"code": "not_enough_credits"}), Kind.MAILER),
]


@pytest.mark.parametrize(
    ("esp", "answer", "kind"),
    [pytest.param(*row, id=f"{row[0]} {row[1].status} {row[2]} {n}") for n, row in enumerate(PER_ESP)],
)
def test_what_is_particular_to_the_provider(esp_line: OpenLine, esp: str, answer: Answer, kind: Kind):
    with HTTPFaultServer(answer) as server:
        outcome = esp_line(esp, server).deliver(a_parcel())

    assert outcome.kind is kind, outcome
    assert len(server.requests) == 1


def test_a_quota_that_is_used_up_is_asked_again_at_most_hourly(esp_line: OpenLine):
    with HTTPFaultServer(Answer(429, {"name": "monthly_quota_exceeded"})) as server:
        outcome = esp_line("resend", server).deliver(a_parcel())

    assert outcome.retry_after == timedelta(hours=1)


def test_a_provider_that_cannot_be_reached_was_sent_nothing(esp_line: OpenLine):
    with HTTPFaultServer() as server:
        pass

    outcome = esp_line("mailgun", server).deliver(a_parcel())

    assert (outcome.kind, outcome.code) == (Kind.MAILER, "connect")


def test_a_failed_tls_handshake_is_the_mailers_trouble(esp_line: OpenLine):
    with HTTPFaultServer() as server, SMTPFaultServer() as no_tls:
        url = f"https://{no_tls.host}:{no_tls.port}/"
        outcome = esp_line("mailgun", server, api_url=url).deliver(a_parcel())

    assert (outcome.kind, outcome.code) == (Kind.MAILER, "tls")


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


def test_a_proxy_that_cannot_be_reached_was_sent_nothing(esp_line: OpenLine, monkeypatch: pytest.MonkeyPatch):
    with HTTPFaultServer() as proxy:
        pass
    monkeypatch.setenv("http_proxy", proxy.url)

    outcome = esp_line("postmark", proxy, api_url="http://api.invalid/").deliver(a_parcel())

    assert (outcome.kind, outcome.code) == (Kind.MAILER, "connect")


@pytest.mark.parametrize("mistake", [{"api_url": "api.example.com"}, {"server_token": "two\nlines"}])
def test_a_bad_address_or_key_is_the_mailers_trouble(esp_line: OpenLine, mistake: dict[str, str]):
    with HTTPFaultServer() as server:
        outcome = esp_line("postmark", server, **mistake).deliver(a_parcel())

    assert (outcome.kind, outcome.code) == (Kind.MAILER, "configuration")
    assert "two" not in outcome.text
    assert server.connections == 0


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
            outcome = line.deliver(a_parcel(seconds=0.5))
            took = time.monotonic() - started

        assert (outcome.kind, outcome.code) == (Kind.AMBIGUOUS, "deadline")
        assert 0.4 < took < 1.5

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
            line = esp_line("postmark", server, timeout=0.2)
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
