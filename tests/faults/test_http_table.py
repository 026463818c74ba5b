"""The HTTP table and that of the providers, row by row, on Anymail's own backends."""

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from anymail.exceptions import AnymailCancelSend
from anymail.message import AnymailMessage
from anymail.signals import post_send, pre_send
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage

from mail_outbox.core.outcomes import Kind, Outcome
from tests.delivery.conftest import OpenLine, a_message, a_parcel
from tests.delivery.esps import HTML, MAILGUN_OK, OK, OPTIONS
from tests.faults import HANGS, SLOW, closed_port, full_port
from tests.faults.certificates import EXPIRED, GOOD, OTHER_NAME
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

# What Anymail says of SendGrid: that it can no longer try it out.
pytestmark = pytest.mark.filterwarnings("ignore:django-anymail has dropped official support for SendGrid")

ANN, BOB = "ann@example.com", "bob@example.com"
PATIENCE, DEADLINE = 0.8, 1.2
TRICKLE = (SLOW, 0.02)
HOUR = timedelta(hours=1)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def cancelled() -> Expected:
    return Expected(kind=Kind.CANCELLED, code="cancelled by the mailer")


def partial(code: str, **refused: bool) -> Expected:
    return Expected(kind=Kind.PARTIAL, code=code, refused={f"{who}@example.com": it for who, it in refused.items()})


def play(
    esp_line: OpenLine,
    esp: str,
    server: HTTPFaultServer,
    expected: Expected,
    message: EmailMessage | None = None,
    **options: Any,
) -> Outcome:
    """Make one attempt, in time and with one request at most, and compare it with what the provider accepted."""
    is_late = expected.code == "deadline"
    timeout = PATIENCE if expected.code == "timeout" else 20
    line = esp_line(esp, server, **({"timeout": timeout} | options))
    started = time.monotonic()
    outcome = line.deliver(a_parcel(message, seconds=DEADLINE if is_late else 20))
    took = time.monotonic() - started
    line.close()
    assert took < HANGS
    assert len(server.requests) <= 1
    expected.compare(outcome)
    agree(outcome, len(server.journal))
    return outcome


def no(status: int, body: Any = None, **headers: str) -> Answer:
    """Return an answer by which nothing is accepted, whatever its status says."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"message": "no"} if body is None else body, named, accepts=False)


# The generic table: what is known of the request.

LOST: list[tuple[str, Any, Expected]] = [
    ("reset or closed without an answer: drop before the body was read", "drop-before-body", ambiguous("disconnected")),
    ("reset or closed without an answer: drop, not accepted", "drop", ambiguous("disconnected")),
    ("reset or closed without an answer: drop, accepted", "accept-then-drop", ambiguous("disconnected")),
    ("reset or closed without an answer: RST, not accepted", "rst", ambiguous("disconnected")),
    ("reset or closed without an answer: RST, accepted", "accept-then-rst", ambiguous("disconnected")),
    ("read timeout, not accepted", "hang", ambiguous("timeout")),
    ("read timeout, accepted", "accept-then-hang", ambiguous("timeout")),
    ("read timeout, accepted, past the deadline", "accept-then-hang", ambiguous("deadline")),
    ("an answer that trickles, past the deadline", TRICKLE, ambiguous("deadline")),
    ("answer cut short", "accept-then-cut", ambiguous("network")),
    ("an answer that is no HTTP", "garbage", ambiguous("network")),
    ("502 by a gateway", Answer(502, HTML), ambiguous("502")),
    ("504 by a gateway", Answer(504, HTML), ambiguous("504")),
    ("504 by a gateway, in JSON", Answer(504, {"message": "timeout"}), ambiguous("504")),
    ("522 by a gateway", Answer(522, HTML), ambiguous("522")),
    ("500 in foreign HTML", Answer(500, HTML), ambiguous("500")),
    ("503 in foreign HTML", Answer(503, HTML), ambiguous("503")),
    ("502 by a gateway behind which it was accepted", Answer(502, HTML, accepts=True), ambiguous("502")),
]
ANSWERED: list[tuple[str, Any, Expected]] = [
    ("2xx", None, sent("200")),
    ("2xx with an unreadable body", Answer(200, "certainly!"), ambiguous("unreadable")),
    ("2xx with another body than ever", Answer(200, {"hello": 1}), ambiguous("unreadable")),
    ("429", no(429), throttled("429")),
    ("420", no(420), throttled("420")),
    ("429, Retry-After in seconds", no(429, Retry_After="7"), throttled("429", wait=seconds(7))),
    ("429, Retry-After 0", no(429, Retry_After="0"), throttled("429", wait=seconds(1))),
    ("429, Retry-After negative", no(429, Retry_After="-5"), throttled("429", wait=seconds(1))),
    ("429, Retry-After garbage", no(429, Retry_After="soon"), throttled("429", wait=seconds(1))),
    ("429, Retry-After a day", no(429, Retry_After="86400"), throttled("429", wait=HOUR)),
    ("429, Retry-After a date to come", no(429, Retry_After="Fri, 20 Nov 2099 12:00:00 GMT"), throttled("429", wait=HOUR)),
    ("429, Retry-After a date gone by", no(429, Retry_After="Fri, 20 Nov 2020 12:00:00 GMT"), throttled("429", wait=seconds(1))),
    ("429, X-RateLimit-Reset an epoch", no(429, X_RateLimit_Reset="4099000000"), throttled("429", wait=HOUR)),
    ("429, ratelimit-reset", no(429, ratelimit_reset="30"), throttled("429", wait=seconds(30))),
    ("429, x-sib-ratelimit-reset", no(429, x_sib_ratelimit_reset="42"), throttled("429", wait=seconds(42))),
    *((f"{status}", no(status), mailer(f"{status}")) for status in (401, 402, 403, 404, 405, 406, 407, 451)),
    ("302 to somewhere else", no(302, "", Location="/login"), mailer("302")),
    ("308 to somewhere else", no(308, "", Location="/v4"), mailer("308")),
    ("408", no(408), transient("408")),
    ("409", no(409), transient("409")),
    *((f"{status}", no(status), permanent(f"{status}", refused={})) for status in (400, 413, 415, 422)),
    ("500 with the provider's own error", no(500), mailers_transient("500")),
    ("503 with the provider's own error", no(503), mailers_transient("503")),
    ("503 with the provider's own error, Retry-After", no(503, Retry_After="7"), mailers_transient("503", wait=seconds(7))),
]  # fmt: skip


@pytest.mark.parametrize(("action", "expected"), params([*LOST, *ANSWERED]))
def test_what_becomes_of_a_request(esp_line: OpenLine, action: Any, expected: Expected):
    with HTTPFaultServer(action, default=MAILGUN_OK) as server:
        play(esp_line, "mailgun", server, expected)


UNREACHABLE: list[tuple[str, Any, str, Expected]] = [
    ("refused", closed_port, "http://127.0.0.1:{}/", mailer("connect")),
    ("DNS", None, "http://nowhere.invalid/", mailer("dns")),
    ("connect timeout", full_port, "http://127.0.0.1:{}/", mailer("timeout")),
    ("connect timeout, past the deadline", full_port, "http://127.0.0.1:{}/", mailer("deadline")),
    ("TLS handshake with a server that speaks none", SMTPFaultServer, "https://127.0.0.1:{}/", mailer("tls")),
    ("bad URL", None, "api.example.com/v1/", mailer("configuration")),
    ("bad scheme", None, "gopher://api.example.com/", mailer("configuration")),
]


@pytest.mark.parametrize("esp", OPTIONS)
@pytest.mark.parametrize(("place", "url", "expected"), params(UNREACHABLE))
def test_a_provider_that_cannot_be_reached(esp_line: OpenLine, esp: str, place: Any, url: str, expected: Expected):
    with place() if place else contextlib.nullcontext() as there, HTTPFaultServer() as server:
        url = url.format(getattr(there, "port", there))
        play(esp_line, esp, server, expected, api_url=url)

    assert server.connections == 0


@pytest.mark.parametrize(
    ("script", "expected"),
    params(
        [
            ("drop", {"tls": "drop"}, mailer("tls")),
            ("RST", {"tls": "rst"}, mailer("disconnected")),
            ("garbage", {"tls": "garbage"}, mailer("tls")),
            ("hang", {"tls": "hang"}, mailer("timeout")),
            ("hang, past the deadline", {"tls": "hang"}, mailer("deadline")),
        ]
    ),
)
def test_a_handshake_that_comes_to_nothing(
    esp_line: OpenLine, trust: ServerSide, script: dict[str, str], expected: Expected
):
    tls = trust(GOOD)
    with HTTPFaultServer() as server, SMTPFaultServer(script, tls=tls, is_tls_from_the_start=True) as there:
        play(esp_line, "mailgun", server, expected, api_url=f"https://127.0.0.1:{there.port}/")


@pytest.mark.parametrize(
    ("certificate", "expected"),
    params(
        [
            ("good", GOOD, sent("200")),
            ("nobody's we trust", "untrusted", mailer("tls")),
            ("expired", EXPIRED, mailer("tls")),
            ("for another name", OTHER_NAME, mailer("tls")),
        ]
    ),
)
def test_a_certificate(
    esp_line: OpenLine, trust: ServerSide, monkeypatch: pytest.MonkeyPatch, certificate: str, expected: Expected
):
    tls = trust(GOOD if certificate == "untrusted" else certificate)
    if certificate == "untrusted":
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        monkeypatch.delenv("SSL_CERT_FILE")
    with HTTPFaultServer(default=MAILGUN_OK, tls=tls) as server:
        play(esp_line, "mailgun", server, expected)


def test_tls_that_breaks_under_the_answer(esp_line: OpenLine, trust: ServerSide):
    with HTTPFaultServer("accept-then-broken-tls", tls=trust(GOOD)) as server:
        play(esp_line, "mailgun", server, ambiguous("tls"))


# What holds for every provider, each played by its own backend.

EVERYWHERE: list[tuple[str, Any, Expected]] = [
    ("drop, not accepted", "drop", ambiguous("disconnected")),
    ("drop, accepted", "accept-then-drop", ambiguous("disconnected")),
    ("read timeout", "accept-then-hang", ambiguous("timeout")),
    ("502 by a gateway", Answer(502, HTML), ambiguous("502")),
    ("500 in foreign HTML", Answer(500, HTML), ambiguous("500")),
    ("429", no(429, Retry_After="7"), throttled("429", wait=seconds(7))),
    ("429 in HTML", Answer(429, HTML), throttled("429")),
    ("401", no(401), mailer("401")),
    ("403", no(403), mailer("403")),
    ("400", no(400), permanent("400")),
    ("413 in HTML", Answer(413, HTML), permanent("413")),
    ("503 with the provider's own error", no(503), mailers_transient("503")),
]


@pytest.mark.parametrize("esp", OPTIONS)
@pytest.mark.parametrize(("action", "expected"), params(EVERYWHERE))
def test_every_provider(esp_line: OpenLine, esp: str, action: Any, expected: Expected):
    with HTTPFaultServer(action, default=OK[esp]) as server:
        play(esp_line, esp, server, expected)


@pytest.mark.parametrize("esp", OPTIONS)
def test_every_provider_that_takes_the_message(esp_line: OpenLine, esp: str):
    with HTTPFaultServer(default=OK[esp]) as server:
        outcome = play(esp_line, esp, server, sent(str(OK[esp].status)))

    assert outcome.provider_message_id


@pytest.mark.parametrize("esp", OPTIONS)
def test_every_provider_without_its_key(open_line: OpenLine, esp: str):
    missing = {"unisender_go": {"api_url": "http://127.0.0.1/"}, "postal": {"api_url": "http://127.0.0.1/"}}
    outcome = open_line(f"anymail.backends.{esp}.EmailBackend", **missing.get(esp, {})).deliver(a_parcel())

    mailer("configuration").compare(outcome)


IN_HEADERS = sorted(set(OPTIONS) - {"mailgun", "mailjet", "mandrill"})  # two take it as a password, one in the body


@pytest.mark.parametrize("esp", IN_HEADERS)
def test_a_newline_in_the_key(esp_line: OpenLine, esp: str):
    key = next(name for name in OPTIONS[esp] if name in ("api_key", "api_token", "server_token", "secret_key"))
    with HTTPFaultServer(default=OK[esp]) as server:
        outcome = play(esp_line, esp, server, mailer("configuration"), **{key: "two\nlines"})

    assert "two" not in outcome.text
    assert server.connections == 0


# The table of the providers.


def postmark(code: int, message: str = "no") -> Answer:
    return no(422, {"ErrorCode": code, "Message": message})


def mandrill(name: str) -> Answer:
    return no(500, {"status": "error", "code": -1, "name": name, "message": "no"})


def status_of_mandrill(status: str, **facts: str) -> Answer:
    return Answer(200, [{"email": ANN, "status": status, **facts}], accepts=status not in ("rejected", "invalid"))


def unisender(**failed: str) -> Answer:
    failed_emails = {f"{who}@example.com": why for who, why in failed.items()}
    emails = [who for who in (ANN,) if who not in failed_emails]
    answer = {"status": "success", "job_id": "j", "emails": emails, "failed_emails": failed_emails}
    return Answer(200, answer, accepts=bool(emails))


def postal(status: str, **data: str) -> Answer:
    return no(200, {"status": status, "data": data})


INACTIVE = (
    "You tried to send to a recipient that has been marked as inactive.\nFound inactive addresses: ann@example.com.\n"
    "Inactive recipients are ones that have generated a hard bounce or a spam complaint."
)
SUPPRESSED = {"type": "ALL_SUPPRESSED", "recipients": [{"email": ANN, "name": "", "reasons": ["hard_bounced"]}]}
MAILJET_ERROR = {"Status": "error", "Errors": [{"ErrorCode": "mj-0013", "StatusCode": 400, "ErrorMessage": "no"}]}
MAILJET_0011 = {"Status": "error", "Errors": [{"ErrorCode": "send-0011", "StatusCode": 400, "ErrorMessage": "no"}]}
REFUSED = {"refused": {ANN: True}}

PROVIDERS: list[tuple[str, str, Any, Expected]] = [
    ("429, X-RateLimit-Reset an epoch", "sendgrid", no(429, X_RateLimit_Reset="4099000000"), throttled("429", wait=HOUR)),
    ("401", "sendgrid", no(401, {"errors": [{"message": "authorization required"}]}), mailer("401")),
    ("403 sender identity", "sendgrid", no(403, {"errors": [{"message": "from address does not match"}]}), mailer("403")),
    ("403 temporarily blocked", "sendgrid", no(403, {"errors": [{"message": "blocked: repeated bad requests"}]}), mailer("403")),
    ("451 residency", "sendgrid", no(451, {"errors": [{"message": "region"}]}), mailer("451")),
    ("400 per field", "sendgrid", no(400, {"errors": [{"field": "subject", "message": "no"}]}), permanent("400")),
    ("413", "sendgrid", no(413, {"errors": [{"message": "too large"}]}), permanent("413")),
    ("202, its body ignored", "sendgrid", Answer(202, "certainly!"), sent("202")),
    ("429", "mailgun", no(429, {"message": "Too many requests"}), throttled("429")),
    ("401", "mailgun", Answer(401, "Forbidden"), mailer("401")),
    ("403", "mailgun", no(403, {"message": "domain is not allowed to send"}), mailer("403")),
    ("404 Domain not found", "mailgun", no(404, "Domain not found: example.com"), mailer("404")),
    ("200 Magnificent API", "mailgun", no(200, "Mailgun Magnificent API"), mailer("200")),
    ("400 bad address", "mailgun", no(400, {"message": "to parameter is not a valid address"}), permanent("400")),
    ("429", "postmark", no(429, {"ErrorCode": 429, "Message": "Rate limit"}), throttled("429")),
    ("422 code 429", "postmark", postmark(429), throttled("422")),
    ("401 code 10", "postmark", no(401, {"ErrorCode": 10, "Message": "Bad token"}), mailer("401")),
    ("422 code 10 token", "postmark", postmark(10), mailer("422")),
    ("422 code 400 sender", "postmark", postmark(400), mailer("422")),
    ("422 code 401 sender unconfirmed", "postmark", postmark(401), mailer("422")),
    ("422 code 405 not allowed to send", "postmark", postmark(405), mailer("422")),
    ("422 code 412 account under review", "postmark", postmark(412), mailer("422")),
    ("422 code 413 account", "postmark", postmark(413), mailer("422")),
    ("422 code 300 invalid To", "postmark", postmark(300, "Invalid 'To' address: 'ann@example.com'."), permanent("422", **REFUSED)),
    ("422 code 300 invalid To, reworded", "postmark", postmark(300, "Invalid 'To': what is this?"), permanent("422")),
    ("422 code 300 invalid From", "postmark", postmark(300, "Invalid 'From' address: 'x'."), permanent("422")),
    ("422 code 406 inactive", "postmark", postmark(406, INACTIVE), permanent("422", **REFUSED)),
    ("422 code 406 inactive, reworded", "postmark", postmark(406, "This one is asleep"), permanent("422")),
    ("422 code 411 attachment type", "postmark", postmark(411), permanent("422")),
    ("422 code 100 maintenance", "postmark", postmark(100), mailers_transient("422")),
    ("429, x-sib-ratelimit-reset", "brevo", no(429, x_sib_ratelimit_reset="42"), throttled("429", wait=seconds(42))),
    ("401", "brevo", no(401, {"code": "unauthorized", "message": "Key not found"}), mailer("401")),
    ("402 no credits", "brevo", no(402, {"code": "not_enough_credits"}), mailer("402")),
    ("403", "brevo", no(403, {"code": "permission_denied"}), mailer("403")),
    ("400", "brevo", no(400, {"code": "invalid_parameter"}), permanent("400")),
    ("429 rate_limit_exceeded", "resend", no(429, {"name": "rate_limit_exceeded"}, ratelimit_reset="1"), throttled("429", wait=seconds(1))),
    ("429 daily quota", "resend", no(429, {"name": "daily_quota_exceeded"}, ratelimit_reset="1"), throttled("429", wait=HOUR)),
    ("429 monthly quota", "resend", no(429, {"name": "monthly_quota_exceeded"}), throttled("429", wait=HOUR)),
    ("401 missing key", "resend", no(401, {"name": "missing_api_key"}), mailer("401")),
    ("401 restricted key", "resend", no(401, {"name": "restricted_api_key"}), mailer("401")),
    ("403 invalid key", "resend", no(403, {"name": "invalid_api_key"}), mailer("403")),
    ("403 unverified domain", "resend", no(403, {"name": "validation_error", "message": "domain is not verified"}), mailer("403")),
    ("400", "resend", no(400, {"name": "validation_error"}), permanent("400")),
    ("422", "resend", no(422, {"name": "invalid_from_address"}), permanent("422")),
    ("409 the same key, another body", "resend", no(409, {"name": "invalid_idempotent_request"}), permanent("409")),
    ("409 the same key, in progress", "resend", no(409, {"name": "concurrent_idempotent_requests"}), transient("409")),
    ("429 retry-after", "mailersend", no(429, retry_after="9"), throttled("429", wait=seconds(9))),
    ("401", "mailersend", no(401, {"message": "Unauthenticated."}), mailer("401")),
    ("403", "mailersend", no(403, {"message": "no"}), mailer("403")),
    ("422", "mailersend", no(422, {"message": "The from.email domain must be verified"}), permanent("422")),
    ("202 ALL_SUPPRESSED", "mailersend", no(202, {"warnings": [SUPPRESSED]}), permanent("202", **REFUSED)),
    ("202 without an id, which Anymail calls failed", "mailersend", no(202, ""), transient("failed")),
    ("429 in JSON", "mailjet", no(429, {"ErrorMessage": "Too many"}), throttled("429")),
    ("429 in HTML", "mailjet", Answer(429, HTML), throttled("429")),
    ("401", "mailjet", no(401, {"StatusCode": 401, "ErrorMessage": "API key"}), mailer("401")),
    ("401 with an ErrorCode", "mailjet", no(401, {"ErrorCode": "mj-0002", "StatusCode": 401}), mailer("401")),
    ("400 Status=error", "mailjet", no(400, {"Messages": [MAILJET_ERROR]}), permanent("400", **REFUSED)),
    ("400 send-0011, a Message-ID", "mailjet", no(400, {"Messages": [MAILJET_0011]}), permanent("400", **REFUSED)),
    ("420", "sparkpost", no(420, {"errors": [{"message": "Exceed Sending Limit"}]}), throttled("420")),
    ("429", "sparkpost", no(429, {"errors": [{"message": "Too many"}]}), throttled("429")),
    ("2102", "sparkpost", no(403, {"errors": [{"message": "limit", "code": "2102"}]}), throttled("403")),
    ("401", "sparkpost", no(401, {"errors": [{"message": "Unauthorized."}]}), mailer("401")),
    ("403", "sparkpost", no(403, {"errors": [{"message": "Forbidden."}]}), mailer("403")),
    ("400", "sparkpost", no(400, {"errors": [{"message": "no", "code": "1200"}]}), permanent("400")),
    ("1902", "sparkpost", no(500, {"errors": [{"message": "generation failure", "code": "1902"}]}), permanent("500")),
    (
        "half rejected is unknown", "sparkpost",
        Answer(200, {"results": {"total_accepted_recipients": 1, "total_rejected_recipients": 1, "id": "x"}}), sent("200"),
    ),
    (
        "all rejected", "sparkpost",
        no(200, {"results": {"total_accepted_recipients": 0, "total_rejected_recipients": 1, "id": "x"}}),
        permanent("refused", **REFUSED),
    ),
    ("429", "mandrill", no(429), throttled("429")),
    ("500 Invalid_Key", "mandrill", mandrill("Invalid_Key"), mailer("500")),
    ("500 PaymentRequired", "mandrill", mandrill("PaymentRequired"), mailer("500")),
    ("500 Unknown_Subaccount", "mandrill", mandrill("Unknown_Subaccount"), mailer("500")),
    ("500 ValidationError", "mandrill", mandrill("ValidationError"), permanent("500")),
    ("500 Unknown_Template", "mandrill", mandrill("Unknown_Template"), permanent("500")),
    ("500 GeneralError", "mandrill", mandrill("GeneralError"), mailers_transient("500")),
    *(
        (f"rejected: {why}", "mandrill", status_of_mandrill("rejected", reject_reason=why), permanent("refused", **REFUSED))
        for why in ("hard-bounce", "unsub", "spam", "custom")
    ),
    ("an empty list", "mandrill", no(200, []), permanent("refused")),
    ("429", "unisender_go", no(429, {"status": "error", "code": 1, "message": "slow"}), throttled("429")),
    ("401", "unisender_go", no(401, {"status": "error", "code": 102, "message": "key"}), mailer("401")),
    ("403", "unisender_go", no(403, {"status": "error", "code": 103, "message": "no"}), mailer("403")),
    ("114 wrong data centre", "unisender_go", no(400, {"status": "error", "code": 114, "message": "no"}), mailer("400")),
    ("failed: invalid", "unisender_go", unisender(ann="invalid"), permanent("refused", **REFUSED)),
    ("failed: permanent_unavailable", "unisender_go", unisender(ann="permanent_unavailable"), permanent("refused", **REFUSED)),
    ("failed: unsubscribed", "unisender_go", unisender(ann="unsubscribed"), permanent("refused", **REFUSED)),
    ("failed: temporary_unavailable", "unisender_go", unisender(ann="temporary_unavailable"), transient("failed")),
    ("missing key in the answer", "unisender_go", Answer(200, {"status": "success"}), ambiguous("unreadable")),
    ("429", "scaleway", no(429), throttled("429")),
    ("401", "scaleway", no(401), mailer("401")),
    ("403", "scaleway", no(403), mailer("403")),
    ("400", "scaleway", no(400), permanent("400")),
    (
        "blocked shows as sending", "scaleway",
        Answer(200, {"emails": [{"mail_rcpt": ANN, "id": "s", "status": "sending"}]}), sent("200"),
    ),
    ("failed", "scaleway", no(200, {"emails": [{"mail_rcpt": ANN, "id": "s", "status": "failed"}]}), transient("failed")),
    ("429", "mailtrap", no(429), throttled("429")),
    ("401", "mailtrap", no(401, {"errors": ["Unauthorized"]}), mailer("401")),
    ("200 with errors", "mailtrap", no(200, {"success": False, "errors": ["no"]}), permanent("200")),
    ("429", "postal", no(429), throttled("429")),
    ("200 InvalidServerAPIKey", "postal", postal("error", code="InvalidServerAPIKey", message="no"), mailer("200")),
    ("200 parameter-error", "postal", postal("parameter-error", message="no"), permanent("200")),
    ("200 error of the message", "postal", postal("error", code="NoRecipients", message="no"), permanent("200")),
    ("odd JSON", "postal", Answer(200, {"hello": 1}), ambiguous("unreadable")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("esp", "answer", "expected"), params((f"{esp}: {row}", esp, *rest) for row, esp, *rest in PROVIDERS)
)
def test_what_a_provider_says(esp_line: OpenLine, esp: str, answer: Any, expected: Expected):
    with HTTPFaultServer(answer, default=OK[esp]) as server:
        play(esp_line, esp, server, expected)


def of_two(ann: str, bob: str, **facts: str) -> Answer:
    accepted = any(status not in ("rejected", "invalid", "failed") for status in (ann, bob))
    body = [{"email": ANN, "status": ann, "_id": "1"}, {"email": BOB, "status": bob, "_id": "2", **facts}]
    return Answer(200, body, accepts=accepted)


BOTH = {"refused": {ANN: True, BOB: True}}
STATUSES: list[tuple[str, str, Answer, Expected]] = [
    ("queued and sent", "mandrill", of_two("queued", "sent"), sent("200")),
    ("unknown with 2xx", "mandrill", of_two("scheduled", "scheduled"), sent("200")),
    ("sent and rejected", "mandrill", of_two("sent", "rejected"), partial("200", bob=True)),
    ("queued and invalid", "mandrill", of_two("queued", "invalid"), partial("200", bob=True)),
    ("sent and failed", "mandrill", of_two("sent", "failed"), partial("200", bob=True)),
    ("only failed", "mandrill", of_two("failed", "failed"), transient("failed")),
    ("only rejected and invalid", "mandrill", of_two("rejected", "invalid"), permanent("refused", **BOTH)),
    (
        "Postmark: one of two inactive", "postmark",
        Answer(200, {"ErrorCode": 0, "MessageID": "p", "To": f"{ANN}, {BOB}", "Message": INACTIVE.replace("ann@", "bob@")}),
        partial("200", bob=True),
    ),
    (
        "MailerSend: SOME_SUPPRESSED", "mailersend",
        Answer(202, {"warnings": [{**SUPPRESSED, "type": "SOME_SUPPRESSED"}]}, {"X-Message-Id": "x"}),
        partial("202", ann=True),
    ),
    ("Unisender Go: one invalid", "unisender_go", unisender(bob="invalid"), partial("200", bob=True)),
    (
        "Mailjet: 400 to a batch of which one part was taken", "mailjet",
        Answer(400, {"Messages": [{"Status": "success", "To": [{"Email": ANN, "MessageID": 7}]}, MAILJET_ERROR]}, accepts=True),
        partial("400", bob=True),
    ),
]  # fmt: skip


@pytest.mark.parametrize("is_ignored", [False, True], ids=["", "IGNORE_RECIPIENT_STATUS"])
@pytest.mark.parametrize(("esp", "answer", "expected"), params(STATUSES))
def test_the_statuses_of_the_recipients(
    esp_line: OpenLine, esp: str, answer: Answer, expected: Expected, *, is_ignored: bool
):
    with HTTPFaultServer(answer) as server:
        play(esp_line, esp, server, expected, a_message(ANN, BOB), ignore_recipient_status=is_ignored)


# The table of exceptions, as far as no answer makes them.


@pytest.fixture
def receive() -> Iterator[Any]:
    """Return what lets a receiver raise for one test."""
    with contextlib.ExitStack() as connected:

        def receive(signal: Any, error: Exception | None) -> None:
            def receiver(**_: Any) -> None:
                if error is not None:
                    raise error

            signal.connect(receiver)
            connected.callback(signal.disconnect, receiver)

        yield receive


RAISED: list[tuple[str, Any, Exception, Expected]] = [
    ("any exception, the request answered", post_send, KeyError("bug"), sent("200")),
    ("any exception, the request not answered", pre_send, ZeroDivisionError("bug"), permanent("build")),
    ("AnymailCancelSend", pre_send, AnymailCancelSend(), cancelled()),
    ("ImproperlyConfigured", pre_send, ImproperlyConfigured("no folder"), mailer("configuration")),
]


@pytest.mark.parametrize(("signal", "error", "expected"), params(RAISED))
def test_what_a_receiver_raises(esp_line: OpenLine, receive: Any, signal: Any, error: Exception, expected: Expected):
    receive(signal, error)
    with HTTPFaultServer(default=OK["postmark"]) as server:
        play(esp_line, "postmark", server, expected)


UNSENDABLE: list[tuple[str, str, dict[str, Any]]] = [
    ("AnymailUnsupportedFeature: two tags at Postmark", "postmark", {"tags": ["a", "b"]}),
    ("AnymailUnsupportedFeature: metadata at MailerSend", "mailersend", {"metadata": {"x": 1}}),
    ("AnymailUnsupportedFeature: metadata at Postal", "postal", {"metadata": {"x": 1}}),
    ("AnymailSerializationError", "postmark", {"metadata": {"x": object()}}),
    ("AnymailInvalidAddress", "postmark", {"to": ["not an address@"]}),
    ("two addresses in one text, the second broken", "postmark", {"to": ["ann@example.com, bob@"]}),
    ("a send_at that is no time", "postmark", {"send_at": "tomorrow"}),
]


@pytest.mark.parametrize(("esp", "fields"), params(UNSENDABLE))
def test_what_anymail_refuses_to_send(esp_line: OpenLine, esp: str, fields: dict[str, Any]):
    values = {"subject": "Hello", "body": "Hello", "from_email": "shop@example.com", "to": [ANN]}
    with HTTPFaultServer(default=OK[esp]) as server:
        play(esp_line, esp, server, permanent("build"), AnymailMessage(**(values | fields)))

    assert server.connections == 0
