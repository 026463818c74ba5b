"""The SMTP table, row by row: what the server does at each step, and what the attempt comes to on Django's own backend."""

import contextlib
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from mail_outbox.core.outcomes import Kind, Outcome
from mail_outbox.delivery import Line
from tests.delivery.conftest import BIG, SMTP, OpenLine, a_message, a_parcel
from tests.faults import HANGS, SLOW, closed_port, full_port
from tests.faults.certificates import EXPIRED, GOOD, OTHER_NAME
from tests.faults.conftest import ServerSide
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

pytestmark = pytest.mark.usefixtures("pipelining")

ANN, BOB, CY = "ann@x.example", "bob@x.example", "cy@x.example"
LOGIN = {"username": "shop", "password": "secret"}
PATIENCE, DEADLINE = 0.8, 1.2
"""How long the mailer waits for an answer, and how long an attempt may take, where a row makes it wait."""
WAIT = timedelta(minutes=5)
TRICKLE = (SLOW, 0.2)

Script = Mapping[str, Any]


def partial(**refused: bool) -> Expected:
    return Expected(kind=Kind.PARTIAL, code="250", refused={f"{who}@x.example": it for who, it in refused.items()})


def play(
    line: Line, server: SMTPFaultServer | None, *, seconds: float = 20.0, to: Any = (ANN,), body: str = "Hello"
) -> Outcome:
    """Make one attempt, in time and never twice, and compare it with what the server accepted."""
    started = time.monotonic()
    outcome = line.deliver(a_parcel(a_message(*to, body=body), seconds=seconds))
    took = time.monotonic() - started
    line.close()
    assert took < HANGS
    if server is not None:
        agree(outcome, len(server.journal))
        for accepted in server.journal:
            refused = set(outcome.refused)
            assert set(accepted.recipients) == set(to) - refused or outcome.kind is Kind.AMBIGUOUS
    return outcome


UNREACHABLE: list[tuple[str, Any, dict[str, Any], Expected]] = [
    ("DNS: the name has no address", None, {"host": "nowhere.invalid"}, mailer("dns")),
    ("connection refused", closed_port, {}, mailer("connect")),
    ("no route to the host", None, {"host": "255.255.255.255"}, mailer("network")),
    ("connect timeout", full_port, {"timeout": PATIENCE}, mailer("timeout")),
    ("connect timeout, past the deadline", full_port, {"timeout": 20}, mailer("deadline")),
]


@pytest.mark.parametrize(("port", "options", "expected"), params(UNREACHABLE))
def test_a_server_that_cannot_be_reached(open_line: OpenLine, port: Any, options: dict[str, Any], expected: Expected):
    with port() if port else contextlib.nullcontext(25) as number:
        options = {"host": "127.0.0.1", "port": number, "timeout": 10} | options
        outcome = play(open_line(SMTP, **options), None, seconds=DEADLINE if options["timeout"] == 20 else 20)

    expected.compare(outcome)


AT_THE_BANNER: list[tuple[str, Script, Expected]] = [
    ("banner 421", {"connect": "421 4.3.2 too busy"}, throttled("421")),
    ("banner 450", {"connect": "450 4.3.2 not now"}, mailers_transient("450")),
    ("banner 554", {"connect": "554 5.7.1 no service"}, mailer("554")),
    ("banner that is a yes, but not 220", {"connect": "251 hm"}, mailer("network")),
    ("drop at the banner", {"connect": "drop"}, mailer("disconnected")),
    ("RST at the banner", {"connect": "rst"}, mailer("disconnected")),
    ("hang at the banner", {"connect": "hang"}, mailer("timeout")),
    ("hang at the banner, past the deadline", {"connect": "hang"}, mailer("deadline")),
    ("trickle at the banner, past the deadline", {"connect": TRICKLE}, mailer("deadline")),
    ("garbage at the banner", {"connect": "garbage"}, mailer("network")),
    ("over-long line at the banner", {"connect": "overlong"}, mailer("network")),
]
AT_EHLO: list[tuple[str, Script, Expected]] = [
    ("drop at EHLO", {"ehlo": "drop"}, mailers_transient("disconnected")),
    ("RST at EHLO", {"ehlo": "rst"}, mailers_transient("disconnected")),
    ("hang at EHLO", {"ehlo": "hang"}, mailers_transient("timeout")),
    ("hang at EHLO, past the deadline", {"ehlo": "hang"}, mailers_transient("deadline")),
    ("trickle at EHLO, past the deadline", {"ehlo": TRICKLE}, mailers_transient("deadline")),
    ("EHLO refused, HELO taken", {"ehlo": "502 5.5.1 no", "helo": "250 hello"}, sent("250")),
    ("EHLO refused, HELO 421", {"ehlo": "502 5.5.1 no", "helo": "421 busy"}, throttled("421")),
    ("EHLO 421, and the line goes dead", {"ehlo": "421 busy"}, throttled("421")),
    ("EHLO and HELO 450", {"ehlo": "450 later"}, mailers_transient("450")),
    ("EHLO and HELO 550", {"ehlo": "550 go away"}, mailer("550")),
    ("EHLO refused, drop at HELO", {"ehlo": "502 5.5.1 no", "helo": "drop"}, mailers_transient("disconnected")),
    ("garbage at EHLO and HELO", {"ehlo": "garbage"}, mailers_transient("unreadable")),
    ("over-long line at EHLO", {"ehlo": "overlong"}, mailers_transient("network")),
]
AT_MAIL: list[tuple[str, Script, Expected]] = [
    ("MAIL 421", {"mail": "421 4.7.0 slow down"}, throttled("421")),
    ("MAIL 450 4.7.28, rate limited", {"mail": "450 4.7.28 rate limited"}, throttled("450")),
    ("MAIL 451", {"mail": "451 4.1.8 later"}, transient("451")),
    ("MAIL 451 4.3.0, the server's system", {"mail": "451 4.3.0 later"}, mailers_transient("451")),
    ("MAIL 452 4.3.1, server disk", {"mail": "452 4.3.1 insufficient storage"}, mailers_transient("452")),
    ("MAIL 552 5.3.4, too big", {"mail": "552 5.3.4 message too big"}, permanent("552")),
    ("MAIL 550 5.7.1, sender refused", {"mail": "550 5.7.1 not this sender"}, permanent("550")),
    ("MAIL 530, login wanted", {"mail": "530 5.7.0 authenticate first"}, mailer("530")),
    ("MAIL 550 5.7.8, credentials", {"mail": "550 5.7.8 bad credentials"}, mailer("550")),
    ("drop at MAIL", {"mail": "drop"}, mailers_transient("disconnected")),
    ("RST at MAIL", {"mail": "rst"}, mailers_transient("disconnected")),
    ("hang at MAIL", {"mail": "hang"}, mailers_transient("timeout")),
    ("trickle at MAIL, past the deadline", {"mail": TRICKLE}, mailers_transient("deadline")),
    ("garbage at MAIL", {"mail": "garbage"}, mailers_transient("unreadable")),
    ("over-long line at MAIL", {"mail": "overlong"}, mailers_transient("network")),
    ("MAIL refused, drop at RSET", {"mail": "550 5.7.1 no", "rset": "drop"}, permanent("550")),
    ("MAIL refused, hang at RSET", {"mail": "550 5.7.1 no", "rset": "hang"}, permanent("550")),
    ("MAIL refused, over-long RSET", {"mail": "550 5.7.1 no", "rset": "overlong"}, permanent("550")),
]
AT_RCPT: list[tuple[str, Script, Expected]] = [
    ("RCPT 550 5.1.1, unknown", {"rcpt": "550 5.1.1 unknown"}, permanent("550", refused={ANN: True})),
    ("RCPT 550 5.1.10, null MX", {"rcpt": "550 5.1.10 null MX"}, permanent("550", refused={ANN: True})),
    ("RCPT 550 5.7.1, policy", {"rcpt": "550 5.7.1 no"}, permanent("550", refused={ANN: True})),
    ("RCPT 552 5.2.2, mailbox full", {"rcpt": "552 5.2.2 full"}, permanent("552", refused={ANN: True})),
    ("RCPT 452 4.2.2, mailbox full", {"rcpt": "452 4.2.2 full"}, transient("452", refused={ANN: False})),
    ("RCPT 452 4.5.3, too many", {"rcpt": "452 4.5.3 too many"}, transient("452", refused={ANN: False})),
    ("RCPT 450 4.2.0, greylisting", {"rcpt": "450 4.2.0 come back"}, transient("450", wait=WAIT)),
    ("RCPT 451 4.7.1, greylisting", {"rcpt": "451 4.7.1 come back"}, transient("451", wait=WAIT)),
    ("RCPT 450 that says greylisted", {"rcpt": "450 Greylisted, see you"}, transient("450", wait=WAIT)),
    ("RCPT 450 for another reason", {"rcpt": "450 4.2.1 mailbox busy"}, transient("450", refused={ANN: False})),
    ("RCPT 421", {"rcpt": "421 4.7.0 too many connections"}, throttled("421")),
    ("RCPT 450 4.7.28, rate limited", {"rcpt": "450 4.7.28 rate limited"}, throttled("450")),
    ("RCPT 530, login wanted", {"rcpt": "530 5.7.0 authenticate first"}, mailer("530")),
    ("drop at RCPT", {"rcpt": "drop"}, mailers_transient("disconnected")),
    ("RST at RCPT", {"rcpt": "rst"}, mailers_transient("disconnected")),
    ("hang at RCPT", {"rcpt": "hang"}, mailers_transient("timeout")),
    ("trickle at RCPT, past the deadline", {"rcpt": TRICKLE}, mailers_transient("deadline")),
    ("garbage at RCPT", {"rcpt": "garbage"}, mailers_transient("unreadable")),
    ("over-long line at RCPT", {"rcpt": "overlong"}, mailers_transient("network")),
]
AT_DATA: list[tuple[str, Script, Expected]] = [
    ("DATA 421", {"data": "421 4.3.2 shutting down"}, throttled("421")),
    ("DATA 451", {"data": "451 4.7.1 later"}, transient("451", wait=WAIT)),
    ("DATA 451 4.3.0, the server's system", {"data": "451 4.3.0 later"}, mailers_transient("451")),
    ("DATA 554", {"data": "554 5.6.0 no"}, permanent("554")),
    ("DATA 250, which is no invitation", {"data": "250 what?"}, mailers_transient("250")),
    ("drop before 354", {"data": "drop"}, mailers_transient("disconnected")),
    ("RST before 354", {"data": "rst"}, mailers_transient("disconnected")),
    ("hang before 354", {"data": "hang"}, mailers_transient("timeout")),
    ("trickle before 354, past the deadline", {"data": TRICKLE}, mailers_transient("deadline")),
    ("garbage before 354", {"data": "garbage"}, mailers_transient("unreadable")),
    ("over-long line before 354", {"data": "overlong"}, mailers_transient("network")),
]
AFTER_THE_DOT: list[tuple[str, Script, Expected]] = [
    ("250 after the dot", {}, sent("250")),
    ("251 after the dot", {"dot": "251 2.0.0 forwarded"}, sent("251")),
    ("421 after the dot", {"dot": "421 4.3.2 shutting down"}, throttled("421")),
    ("451 4.7.28 after the dot, rate limited", {"dot": "451 4.7.28 slow down"}, throttled("451")),
    ("451 after the dot", {"dot": "451 4.3.0 later"}, transient("451")),
    ("552 5.2.2 after the dot", {"dot": "552 5.2.2 over quota"}, permanent("552")),
    ("552 5.3.4 after the dot, too big", {"dot": "552 5.3.4 too big"}, permanent("552")),
    ("550 5.7.1 after the dot", {"dot": "550 5.7.1 spam"}, permanent("550")),
    ("550 5.7.26 after the dot, DMARC", {"dot": "550 5.7.26 DMARC"}, permanent("550")),
    ("550 5.7.8 after the dot, credentials", {"dot": "550 5.7.8 who are you"}, mailer("550")),
    ("451 after the dot, then an over-long RSET", {"dot": "451 4.3.0 later", "rset": "overlong"}, transient("451")),
    ("drop after the dot, not accepted", {"dot": "drop"}, ambiguous("disconnected")),
    ("drop after the dot, accepted", {"dot": "accept-then-drop"}, ambiguous("disconnected")),
    ("RST after the dot, not accepted", {"dot": "rst"}, ambiguous("disconnected")),
    ("RST after the dot, accepted", {"dot": "accept-then-rst"}, ambiguous("disconnected")),
    ("hang after the dot, not accepted, past the deadline", {"dot": "hang"}, ambiguous("deadline")),
    ("hang after the dot, accepted, past the deadline", {"dot": "accept-then-hang"}, ambiguous("deadline")),
    ("trickle after the dot, past the deadline", {"dot": TRICKLE}, ambiguous("deadline")),
    ("garbage after the dot, not accepted", {"dot": "garbage"}, ambiguous("unreadable")),
    ("garbage after the dot, accepted", {"dot": "accept-then-garbage"}, ambiguous("unreadable")),
    ("over-long line after the dot, not accepted", {"dot": "overlong"}, ambiguous("network")),
    ("over-long line after the dot, accepted", {"dot": "accept-then-overlong"}, ambiguous("network")),
    ("354 after the dot", {"dot": "354 go on"}, ambiguous("unreadable")),
    ("199 after the dot", {"dot": "199 hm"}, ambiguous("unreadable")),
    ("600 after the dot", {"dot": "600 hm"}, ambiguous("unreadable")),
]
STEPS = [*AT_THE_BANNER, *AT_EHLO, *AT_MAIL, *AT_RCPT, *AT_DATA, *AFTER_THE_DOT]


@pytest.mark.parametrize(("script", "expected"), params(STEPS))
def test_a_step_of_the_conversation(smtp_line: OpenLine, script: Script, expected: Expected):
    is_late = expected.code == "deadline"
    is_waiting = "hang" in script.values()
    with SMTPFaultServer(script) as server:
        line = smtp_line(server, timeout=PATIENCE if is_waiting and not is_late else 5)
        outcome = play(line, server, seconds=DEADLINE if is_late else 20)

    expected.compare(outcome)
    assert server.connections == 1


AT_LOGIN: list[tuple[str, Script, Expected]] = [
    ("login taken", {}, sent("250")),
    ("AUTH 535", {"auth": "535 5.7.8 bad credentials"}, mailer("535")),
    ("AUTH 534", {"auth": "534 5.7.9 stronger mechanism"}, mailer("534")),
    ("AUTH 530", {"auth": "530 5.7.0 encrypt first"}, mailer("530")),
    ("AUTH 538", {"auth": "538 5.7.11 encrypt first"}, mailer("538")),
    ("AUTH 550 5.7.8", {"auth": "550 5.7.8 bad credentials"}, mailer("550")),
    ("AUTH 454 4.7.0", {"auth": "454 4.7.0 temporary failure"}, mailers_transient("454")),
    ("AUTH 421, and the line goes dead", {"auth": "421 4.7.0 too many logins"}, throttled("421")),
    ("AUTH 535, and the line goes dead", {"auth": ["535 5.7.8 bad credentials", "drop"]}, mailer("535")),
    ("AUTH 535, then 421", {"auth": ["535 5.7.8 bad credentials", "421 4.7.0 enough"]}, mailer("535")),
    ("AUTH refused one way, taken another", {"auth": ["504 5.5.4 unknown mechanism", None]}, sent("250")),
    ("AUTH not offered", {"ehlo": "250 fault.example"}, mailer("not supported")),
    ("AUTH only in a way nobody speaks", {"ehlo": "250-fault.example\n250 AUTH NTLM"}, mailer("network")),
    ("drop at AUTH", {"auth": "drop"}, mailer("disconnected")),
    ("RST at AUTH", {"auth": "rst"}, mailer("disconnected")),
    ("hang at AUTH", {"auth": "hang"}, mailer("timeout")),
    ("trickle at AUTH, past the deadline", {"auth": TRICKLE}, mailer("deadline")),
    ("drop at EHLO before a login", {"ehlo": "drop"}, mailer("disconnected")),
    ("EHLO 421 before a login", {"ehlo": "421 busy"}, throttled("421")),
    ("EHLO and HELO 550 before a login", {"ehlo": "550 go away"}, mailer("550")),
]


@pytest.mark.parametrize(("script", "expected"), params(AT_LOGIN))
def test_a_login(smtp_line: OpenLine, script: Script, expected: Expected):
    is_late = expected.code == "deadline"
    with SMTPFaultServer(script) as server:
        line = smtp_line(server, timeout=PATIENCE if "hang" in script.values() else 5, **LOGIN)
        outcome = play(line, server, seconds=DEADLINE if is_late else 20)

    expected.compare(outcome)


AT_TLS: list[tuple[str, str, Script, Expected]] = [
    ("handshake done", GOOD, {}, sent("250")),
    ("the certificate is nobody's we trust", "untrusted", {}, mailer("tls")),
    ("the certificate has expired", EXPIRED, {}, mailer("tls")),
    ("the certificate is for another name", OTHER_NAME, {}, mailer("tls")),
    ("garbage in place of a handshake", GOOD, {"tls": "garbage"}, mailer("tls")),
    ("drop at the handshake", GOOD, {"tls": "drop"}, mailer("tls")),
    ("RST at the handshake", GOOD, {"tls": "rst"}, mailer("disconnected")),
    ("hang at the handshake", GOOD, {"tls": "hang"}, mailer("timeout")),
]


@pytest.mark.parametrize("way", ["use_tls", "use_ssl"])
@pytest.mark.parametrize(("certificate", "script", "expected"), params(AT_TLS))
def test_a_handshake(
    smtp_line: OpenLine,
    trust: ServerSide,
    monkeypatch: pytest.MonkeyPatch,
    certificate: str,
    script: Script,
    expected: Expected,
    way: str,
):
    tls = trust(GOOD if certificate == "untrusted" else certificate)
    if certificate == "untrusted":
        monkeypatch.delenv("SSL_CERT_FILE")
    with SMTPFaultServer(script, tls=tls, is_tls_from_the_start=way == "use_ssl") as server:
        outcome = play(smtp_line(server, timeout=PATIENCE if script == {"tls": "hang"} else 5, **{way: True}), server)

    expected.compare(outcome)
    if expected.kind is not Kind.SENT:
        assert not any(command[:4].lower() in ("mail", "auth", "data") for command in server.commands), "plain text"


BEFORE_TLS: list[tuple[str, Script, Expected]] = [
    ("STARTTLS not offered", {"ehlo": "250 fault.example"}, mailer("not supported")),
    ("STARTTLS 454", {"starttls": "454 4.7.0 not available"}, mailers_transient("454")),
    ("STARTTLS 421", {"starttls": "421 4.3.2 shutting down"}, throttled("421")),
    ("STARTTLS 502", {"starttls": "502 5.5.1 not here"}, mailer("502")),
    ("drop at STARTTLS", {"starttls": "drop"}, mailer("disconnected")),
    ("hang at STARTTLS", {"starttls": "hang"}, mailer("timeout")),
]


@pytest.mark.parametrize(("script", "expected"), params(BEFORE_TLS))
def test_a_way_to_tls_that_is_barred_is_never_plain_text(
    smtp_line: OpenLine, trust: ServerSide, script: Script, expected: Expected
):
    with SMTPFaultServer(script, tls=trust(GOOD)) as server:
        line = smtp_line(server, timeout=PATIENCE if "hang" in script.values() else 5, use_tls=True, **LOGIN)
        outcome = play(line, server)

    expected.compare(outcome)
    assert {command.split()[0].lower() for command in server.commands} <= {"ehlo", "starttls", "quit"}


def test_a_server_without_tls_where_tls_is_expected_at_once(smtp_line: OpenLine):
    with SMTPFaultServer() as server:
        outcome = play(smtp_line(server, use_ssl=True), server)

    mailer("tls").compare(outcome)


SOME: list[tuple[str, Script, Expected]] = [
    ("nobody refused", {}, sent("250")),
    ("one 5xx", {"rcpt": {BOB: "550 5.1.1 unknown"}}, partial(bob=True)),
    ("one 4xx", {"rcpt": {BOB: "451 4.2.2 full"}}, partial(bob=False)),
    ("one 5xx, one 4xx", {"rcpt": {ANN: "550 5.1.1 unknown", BOB: "450 4.2.0 later"}}, partial(ann=True, bob=False)),
    ("a 252 is no refusal", {"rcpt": {BOB: "252 2.1.5 cannot verify"}}, sent("250")),
    ("452 4.5.3 too many", {"rcpt": [None, "452 4.5.3 too many", "452 4.5.3"]}, partial(bob=False, cy=False)),
    ("552 too many", {"rcpt": [None, None, "552 too many recipients"]}, partial(cy=False)),
    ("552 5.5.3", {"rcpt": [None, None, "552 5.5.3 no more"]}, partial(cy=False)),
    ("garbage for one", {"rcpt": {BOB: "garbage"}}, partial(bob=False)),
    ("all 5xx", {"rcpt": "550 5.1.1 unknown"}, permanent("550", refused={ANN: True, BOB: True, CY: True})),
    (
        "all refused, one of them 4xx",
        {"rcpt": ["550 5.1.1 unknown", "450 4.2.1 busy", "550 5.7.1 no"]},
        transient("450", refused={ANN: True, BOB: False, CY: True}),
    ),
    ("all refused, one of them 421", {"rcpt": ["550 5.1.1 unknown", "450 4.2.1 busy", "421 no"]}, throttled("421")),
    ("421 after two were accepted", {"rcpt": [None, None, "421 4.7.0 enough"]}, throttled("421")),
    ("drop after two were accepted", {"rcpt": [None, None, "drop"]}, mailers_transient("disconnected")),
    ("one 5xx, then 451 after the dot", {"rcpt": {BOB: "550 5.1.1 unknown"}, "dot": "451 4.3.0 later"}, transient("451", refused={BOB: True})),
    ("one 4xx, then 451 after the dot", {"rcpt": {BOB: "450 4.2.1 busy"}, "dot": "451 4.3.0 later"}, transient("451", refused={})),
    ("one 5xx, then a drop after the dot", {"rcpt": {BOB: "550 5.1.1 unknown"}, "dot": "accept-then-drop"}, ambiguous("disconnected", refused={BOB: True})),
    ("one 5xx, then 554 after the dot", {"rcpt": {BOB: "550 5.1.1 unknown"}, "dot": "554 5.6.0 no"}, permanent("554")),
]  # fmt: skip


@pytest.mark.parametrize(("script", "expected"), params(SOME))
def test_several_recipients(smtp_line: OpenLine, script: Script, expected: Expected):
    with SMTPFaultServer(script) as server:
        outcome = play(smtp_line(server), server, to=(ANN, BOB, CY))

    expected.compare(outcome)


IN_THE_BODY: list[tuple[str, Script, Expected]] = [
    ("drop during the body", {"body": "drop"}, mailers_transient("disconnected")),
    ("RST during the body", {"body": "rst"}, mailers_transient("disconnected")),
    ("an answer during the body, then a drop", {"body": "451 4.3.0 enough"}, mailers_transient("disconnected")),
    ("hang during the body, past the deadline", {"body": "hang"}, mailers_transient("deadline")),
    ("a server that hardly reads, past the deadline", {"body": TRICKLE}, mailers_transient("deadline")),
]


@pytest.mark.parametrize(("script", "expected"), params(IN_THE_BODY))
def test_a_body_that_does_not_get_through(smtp_line: OpenLine, script: Script, expected: Expected):
    is_late = expected.code == "deadline"
    with SMTPFaultServer(script) as server:
        # Building it may take a busy machine a second or two.
        outcome = play(smtp_line(server), server, body=BIG, seconds=5 if is_late else 20)

    expected.compare(outcome)


@pytest.mark.parametrize("script", ["drop", "rst", "hang", "garbage", "overlong", "451 4.3.0 no", "421 bye", TRICKLE])
def test_quit_changes_nothing(smtp_line: OpenLine, script: Any):
    with SMTPFaultServer({"quit": script}) as server:
        outcome = play(smtp_line(server, line_options={"messages_per_connection": 1}), server)

    sent("250").compare(outcome)


def test_an_address_that_needs_smtputf8_where_it_is_not_offered(open_line: OpenLine):
    with SMTPFaultServer() as server:
        line = open_line("tests.delivery.backends.UTF8Backend", host=server.host, port=server.port)
        outcome = play(line, server)

    permanent("not supported").compare(outcome)
