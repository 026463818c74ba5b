"""The table of Amazon SES, row by row, on Anymail's own backend with a boto3 client that speaks to the fault server."""

import time
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from anymail.message import AnymailMessage
from django.core.mail import EmailMessage

from mail_outbox.core.outcomes import Kind, Outcome
from tests.delivery.conftest import OpenLine, a_message, a_parcel
from tests.delivery.esps import HTML
from tests.faults import HANGS, closed_port, full_port
from tests.faults.certificates import GOOD
from tests.faults.conftest import ServerSide
from tests.faults.http_server import Answer, HTTPFaultServer
from tests.faults.rows import (
    Expected,
    agree,
    ambiguous,
    mailer,
    mailers_transient,
    params,
    permanent,
    sent,
    throttled,
    transient,
)
from tests.faults.smtp_server import SMTPFaultServer

pytest.importorskip("boto3")

SES = "anymail.backends.amazon_ses.EmailBackend"
ANN, BOB = "ann@example.com", "bob@example.com"
PATIENCE = 0.8
KEYS = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "eu-west-1"}
ONCE = {"total_max_attempts": 1}
TAKEN = Answer(200, {"MessageId": "ses-1"})
QUARTER = timedelta(minutes=15)


@pytest.fixture(autouse=True)
def _nothing_of_this_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Keep away keys and settings that somebody's home may have."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.delenv("AWS_MAX_ATTEMPTS", raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def play(
    open_line: OpenLine,
    url: str,
    expected: Expected,
    message: EmailMessage | None = None,
    *,
    config: dict[str, Any] | None = None,
    **client: Any,
) -> Outcome:
    """Make one attempt, in time, and compare what it came to."""
    wait = PATIENCE if expected.code == "timeout" else 20
    config = {"retries": ONCE, "connect_timeout": wait, "read_timeout": wait} | (config or {})
    line = open_line(SES, client_params=KEYS | {"endpoint_url": url, "config": config} | client)
    started = time.monotonic()
    outcome = line.deliver(a_parcel(message))
    took = time.monotonic() - started
    line.close()
    assert took < HANGS
    expected.compare(outcome)
    return outcome


def error(code: str, status: int = 400, **headers: str) -> Answer:
    """Return an error as Amazon gives it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"message": "no"}, {"x-amzn-ErrorType": code, **named})


ANSWERED: list[tuple[str, Any, Expected]] = [
    ("taken", None, sent("200")),
    ("TooManyRequestsException", error("TooManyRequestsException", 429), throttled("TooManyRequestsException")),
    (
        "TooManyRequestsException, Retry-After",
        error("TooManyRequestsException", 429, Retry_After="7"),
        throttled("TooManyRequestsException", wait=timedelta(seconds=7)),
    ),
    ("ThrottlingException", error("ThrottlingException"), throttled("ThrottlingException")),
    ("Throttling", error("Throttling"), throttled("Throttling")),
    ("LimitExceededException", error("LimitExceededException"), throttled("LimitExceededException", wait=QUARTER)),
    *(
        (code, error(code, status), mailer(code))
        for code, status in [
            ("AccessDenied", 403),
            ("AccessDeniedException", 403),
            ("InvalidClientTokenId", 403),
            ("UnrecognizedClientException", 403),
            ("SignatureDoesNotMatch", 403),
            ("InvalidSignatureException", 403),
            ("ExpiredToken", 400),
            ("ExpiredTokenException", 400),
            ("RequestTimeTooSkewed", 403),
            ("RequestExpired", 400),
            ("IncompleteSignature", 400),
            ("NotAuthorized", 400),
            ("AccountSuspendedException", 400),
            ("SendingPausedException", 400),
            ("MailFromDomainNotVerifiedException", 400),
            ("NotFoundException", 404),
        ]
    ),
    ("MessageRejected", error("MessageRejected"), permanent("MessageRejected", refused={})),
    ("BadRequestException", error("BadRequestException"), permanent("BadRequestException", refused={})),
    ("a 400 with a code nobody knows", error("PigeonException"), permanent("PigeonException")),
    ("a 403 with a code nobody knows", error("PigeonException", 403), mailer("PigeonException")),
    ("InternalFailure", error("InternalFailure", 500), mailers_transient("InternalFailure")),
    ("ServiceUnavailable", error("ServiceUnavailable", 503), mailers_transient("ServiceUnavailable")),
    ("500 in foreign HTML", Answer(500, HTML), ambiguous("500")),
    ("503 in foreign HTML", Answer(503, "<!doctype html><html></html>"), ambiguous("503")),
    ("502 by a gateway", Answer(502, HTML), ambiguous("502")),
    ("504 by a gateway", Answer(504, HTML), ambiguous("504")),
    ("2xx with an unreadable body", Answer(200, "certainly!"), ambiguous("unreadable")),
    ("answer cut short", "accept-then-cut", ambiguous("unreadable")),
    ("ReadTimeoutError, not accepted", "hang", ambiguous("timeout")),
    ("ReadTimeoutError, accepted", "accept-then-hang", ambiguous("timeout")),
    ("ConnectionClosedError, not accepted", "drop", ambiguous("disconnected")),
    ("ConnectionClosedError, accepted", "accept-then-drop", ambiguous("disconnected")),
    ("ConnectionClosedError, RST, accepted", "accept-then-rst", ambiguous("disconnected")),
    ("ConnectionClosedError before the body was read", "drop-before-body", ambiguous("disconnected")),
    ("an answer that is no HTTP", "garbage", ambiguous("unknown")),
]


@pytest.mark.parametrize(("action", "expected"), params(ANSWERED))
def test_what_becomes_of_a_request(open_line: OpenLine, action: Any, expected: Expected):
    with HTTPFaultServer(action, default=TAKEN) as server:
        outcome = play(open_line, server.url, expected)

    agree(outcome, len(server.journal))
    assert len(server.requests) <= 1
    assert expected.kind is not Kind.SENT or outcome.provider_message_id == "ses-1"


UNREACHABLE: list[tuple[str, Any, Expected]] = [
    ("EndpointConnectionError: refused", closed_port, mailer("connect")),
    ("ConnectTimeoutError", full_port, mailer("timeout")),
]


@pytest.mark.parametrize(("place", "expected"), params(UNREACHABLE))
def test_an_endpoint_that_cannot_be_reached(open_line: OpenLine, place: Any, expected: Expected):
    with place() as port:
        play(open_line, f"http://127.0.0.1:{port}/", expected)


def test_an_endpoint_without_an_address(open_line: OpenLine):
    play(open_line, "http://nowhere.invalid/", mailer("dns"))


class TestTLS:
    """TLS that fails before the request is the mailer's trouble, and under the answer nobody's knowledge."""

    def test_a_certificate_nobody_vouches_for(self, open_line: OpenLine, trust: ServerSide, monkeypatch: Any):
        tls = trust(GOOD)
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
            monkeypatch.delenv(name)
        with HTTPFaultServer(default=TAKEN, tls=tls) as server:
            play(open_line, server.url, mailer("tls"))

        assert server.requests == []

    def test_a_handshake_with_a_server_that_speaks_none(self, open_line: OpenLine):
        with SMTPFaultServer() as server:
            play(open_line, f"https://127.0.0.1:{server.port}/", mailer("tls"))

    def test_a_good_handshake(self, open_line: OpenLine, trust: ServerSide):
        with HTTPFaultServer(default=TAKEN, tls=trust(GOOD)) as server:
            play(open_line, server.url, sent("200"))

    def test_tls_that_breaks_under_the_answer(self, open_line: OpenLine, trust: ServerSide):
        with HTTPFaultServer("accept-then-broken-tls", default=TAKEN, tls=trust(GOOD)) as server:
            play(open_line, server.url, ambiguous("tls"))

        assert len(server.journal) == 1


@pytest.mark.parametrize("missing", [["aws_access_key_id", "aws_secret_access_key"], ["region_name"]], ids=" ".join)
def test_no_credentials_and_no_region(open_line: OpenLine, missing: list[str]):
    with HTTPFaultServer(default=TAKEN) as server:
        client = dict.fromkeys(missing)
        outcome = play(open_line, server.url, Expected(kind=Kind.MAILER, code=_word_for(missing)), **client)

    assert server.connections == 0
    assert "no" in outcome.text.lower() or "must" in outcome.text.lower()


def _word_for(missing: list[str]) -> str:
    return "configuration" if missing == ["region_name"] else "unknown"


def test_a_parameter_that_amazon_does_not_know_is_the_messages_fault(open_line: OpenLine):
    message = AnymailMessage("Hello", "Hello", "shop@example.com", [ANN], esp_extra={"Pigeon": "yes"})
    with HTTPFaultServer(default=TAKEN) as server:
        play(open_line, server.url, permanent("build"), message)

    assert server.connections == 0


def of_two(ann: str, bob: str) -> Answer:
    """Return what SendBulkEmail answers to a template for two."""
    results = [{"Status": status, "Error": "no", "MessageId": "b"} for status in (ann, bob)]
    return Answer(200, {"BulkEmailEntryResults": results}, accepts="SUCCESS" in (ann, bob))


BULK: list[tuple[str, Answer, Expected]] = [
    ("both taken", of_two("SUCCESS", "SUCCESS"), sent("200")),
    (
        "one taken",
        of_two("SUCCESS", "MESSAGE_REJECTED"),
        Expected(kind=Kind.PARTIAL, code="200", refused={BOB: True}),
    ),
    ("refused for two reasons", of_two("ACCOUNT_THROTTLED", "MESSAGE_REJECTED"), transient("failed")),
    ("ACCOUNT_THROTTLED", of_two("ACCOUNT_THROTTLED", "ACCOUNT_THROTTLED"), throttled("ACCOUNT_THROTTLED")),
    (
        "ACCOUNT_DAILY_QUOTA_EXCEEDED",
        of_two("ACCOUNT_DAILY_QUOTA_EXCEEDED", "ACCOUNT_DAILY_QUOTA_EXCEEDED"),
        throttled("ACCOUNT_DAILY_QUOTA_EXCEEDED", wait=QUARTER),
    ),
    ("ACCOUNT_SUSPENDED", of_two("ACCOUNT_SUSPENDED", "ACCOUNT_SUSPENDED"), mailer("ACCOUNT_SUSPENDED")),
    ("TEMPLATE_NOT_FOUND", of_two("TEMPLATE_NOT_FOUND", "TEMPLATE_NOT_FOUND"), permanent("TEMPLATE_NOT_FOUND")),
    ("TRANSIENT_FAILURE", of_two("TRANSIENT_FAILURE", "TRANSIENT_FAILURE"), mailers_transient("TRANSIENT_FAILURE")),
    ("a status nobody knows", of_two("PIGEON", "PIGEON"), ambiguous("unreadable")),
]


@pytest.mark.parametrize(("answer", "expected"), params(BULK))
def test_a_template_for_two(open_line: OpenLine, answer: Answer, expected: Expected):
    message = AnymailMessage(from_email="shop@example.com", to=[ANN, BOB], template_id="welcome", merge_data={})
    message.subject = message.body = None
    with HTTPFaultServer(answer) as server:
        outcome = play(open_line, server.url, expected, message)

    agree(outcome, len(server.journal))


def test_botocores_own_repetitions_send_a_message_twice(open_line: OpenLine):
    with HTTPFaultServer("accept-then-drop") as server:
        play(open_line, server.url, ambiguous("disconnected"), config={"retries": {"total_max_attempts": 2}})

    assert len(server.journal) == 2


@pytest.mark.parametrize(("place", "kind"), [(full_port, Kind.MAILER), (None, Kind.AMBIGUOUS)], ids=["connect", "read"])
def test_botocores_timeouts_of_a_minute_end_with_the_deadline(open_line: OpenLine, place: Any, kind: Kind):
    with HTTPFaultServer("accept-then-hang") as server, place() if place else nullcontext(server.port) as port:
        url = f"http://127.0.0.1:{port}/"
        line = open_line(SES, client_params=KEYS | {"endpoint_url": url, "config": {"retries": ONCE}})
        line.connect(time.monotonic() + HANGS)  # botocore takes a second or two to make its first client
        started = time.monotonic()
        outcome = line.deliver(a_parcel(seconds=1))
        took = time.monotonic() - started

    assert outcome.kind is kind
    assert outcome.code in ("timeout", "deadline")
    assert took < HANGS


def test_the_client_is_kept_for_the_next_message(open_line: OpenLine):
    with HTTPFaultServer([None, error("MessageRejected"), None], default=TAKEN) as server:
        params = KEYS | {"endpoint_url": server.url, "config": {"retries": ONCE}}
        line = open_line(SES, client_params=params)
        kinds = [line.deliver(a_parcel(a_message())).kind for _ in range(3)]

    assert kinds == [Kind.SENT, Kind.PERMANENT, Kind.SENT]
    assert server.connections == 1
    assert params["config"] == {"retries": ONCE}
