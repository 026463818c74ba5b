"""Every row of the SMTP table, played against a server that knows what it accepted."""

import socket
import time
from datetime import timedelta
from typing import Any

import pytest
from django.core.mail import EmailMessage

from mail_outbox.core.outcomes import Kind
from tests.delivery.conftest import BIG, OpenLine, a_message, a_parcel
from tests.faults.smtp_server import SMTPFaultServer

LOGIN = {"username": "shop", "password": "secret"}

ROWS: list[tuple[str, dict[str, Any], Kind, str]] = [
    # what happens, script, kind, code
    ("nothing", {}, Kind.SENT, "250"),
    ("banner 421", {"connect": "421 4.3.2 too busy"}, Kind.THROTTLED, "421"),
    ("banner 450", {"connect": "450 4.3.2 not now"}, Kind.TRANSIENT, "450"),
    ("banner 554", {"connect": "554 5.7.1 no service"}, Kind.MAILER, "554"),
    ("banner 251", {"connect": "251 hm"}, Kind.MAILER, "network"),
    ("drop at the banner", {"connect": "drop"}, Kind.MAILER, "disconnected"),
    ("reset at the banner", {"connect": "rst"}, Kind.MAILER, "disconnected"),
    ("hang at the banner", {"connect": "hang"}, Kind.MAILER, "timeout"),
    ("garbage at the banner", {"connect": "garbage"}, Kind.MAILER, "network"),
    ("over-long banner", {"connect": "overlong"}, Kind.MAILER, "network"),
    ("drop at EHLO", {"ehlo": "drop"}, Kind.TRANSIENT, "disconnected"),
    ("reset at EHLO", {"ehlo": "rst"}, Kind.TRANSIENT, "disconnected"),
    ("hang at EHLO", {"ehlo": "hang"}, Kind.TRANSIENT, "timeout"),
    ("EHLO refused, HELO taken", {"ehlo": "502 no", "helo": "250 hello"}, Kind.SENT, "250"),
    ("EHLO and HELO 421", {"ehlo": ["502 no"], "helo": "421 busy"}, Kind.THROTTLED, "421"),
    ("EHLO and HELO 450", {"ehlo": "450 later"}, Kind.TRANSIENT, "450"),
    ("EHLO and HELO 550", {"ehlo": "550 go away"}, Kind.MAILER, "550"),
    ("MAIL 421", {"mail": "421 4.7.0 slow down"}, Kind.THROTTLED, "421"),
    ("MAIL 451", {"mail": "451 4.3.0 later"}, Kind.TRANSIENT, "451"),
    ("MAIL 452, disk full", {"mail": "452 4.3.1 insufficient storage"}, Kind.TRANSIENT, "452"),
    ("MAIL 552, too big", {"mail": "552 5.3.4 message too big"}, Kind.PERMANENT, "552"),
    ("MAIL 550 5.7.1", {"mail": "550 5.7.1 not this sender"}, Kind.PERMANENT, "550"),
    ("MAIL 530", {"mail": "530 5.7.0 authenticate first"}, Kind.MAILER, "530"),
    ("MAIL 550 5.7.8", {"mail": "550 5.7.8 bad credentials"}, Kind.MAILER, "550"),
    ("MAIL 450 4.7.28", {"mail": "450 4.7.28 rate limited"}, Kind.THROTTLED, "450"),
    ("drop at MAIL", {"mail": "drop"}, Kind.TRANSIENT, "disconnected"),
    ("hang at MAIL", {"mail": "hang"}, Kind.TRANSIENT, "timeout"),
    ("garbage at MAIL", {"mail": "garbage"}, Kind.TRANSIENT, "unreadable"),
    ("over-long line at MAIL", {"mail": "overlong"}, Kind.TRANSIENT, "network"),
    ("MAIL refused, drop at RSET", {"mail": "550 5.7.1 no", "rset": "drop"}, Kind.PERMANENT, "550"),
    ("MAIL refused, over-long RSET", {"mail": "550 5.7.1 no", "rset": "overlong"}, Kind.PERMANENT, "550"),
    ("RCPT 550", {"rcpt": "550 5.1.1 unknown user"}, Kind.PERMANENT, "550"),
    ("RCPT 552 5.2.2", {"rcpt": "552 5.2.2 mailbox full"}, Kind.PERMANENT, "552"),
    ("RCPT 452 4.2.2", {"rcpt": "452 4.2.2 mailbox full"}, Kind.TRANSIENT, "452"),
    ("RCPT 450, greylisted", {"rcpt": "450 4.2.0 greylisted, come back"}, Kind.TRANSIENT, "450"),
    ("RCPT 421", {"rcpt": "421 4.7.0 too many connections"}, Kind.THROTTLED, "421"),
    ("RCPT 530", {"rcpt": "530 5.7.0 authenticate first"}, Kind.MAILER, "530"),
    ("drop at RCPT", {"rcpt": "drop"}, Kind.TRANSIENT, "disconnected"),
    ("DATA 421", {"data": "421 4.3.2 shutting down"}, Kind.THROTTLED, "421"),
    ("DATA 451", {"data": "451 4.3.0 later"}, Kind.TRANSIENT, "451"),
    ("DATA 554", {"data": "554 5.6.0 no"}, Kind.PERMANENT, "554"),
    ("DATA 250", {"data": "250 what?"}, Kind.TRANSIENT, "250"),
    ("drop before 354", {"data": "drop"}, Kind.TRANSIENT, "disconnected"),
    ("hang before 354", {"data": "hang"}, Kind.TRANSIENT, "timeout"),
    ("garbage before 354", {"data": "garbage"}, Kind.TRANSIENT, "unreadable"),
    ("451 after the dot", {"dot": "451 4.3.0 later"}, Kind.TRANSIENT, "451"),
    ("552 after the dot", {"dot": "552 5.2.2 over quota"}, Kind.PERMANENT, "552"),
    ("550 5.7.26 after the dot", {"dot": "550 5.7.26 DMARC"}, Kind.PERMANENT, "550"),
    ("421 after the dot", {"dot": "421 4.3.2 shutting down"}, Kind.THROTTLED, "421"),
    ("451, then an over-long RSET", {"dot": "451 4.3.0 later", "rset": "overlong"}, Kind.TRANSIENT, "451"),
    ("drop after the dot, not accepted", {"dot": "drop"}, Kind.AMBIGUOUS, "disconnected"),
    ("drop after the dot, accepted", {"dot": "accept-then-drop"}, Kind.AMBIGUOUS, "disconnected"),
    ("reset after the dot", {"dot": "accept-then-rst"}, Kind.AMBIGUOUS, "disconnected"),
    ("hang after the dot", {"dot": "accept-then-hang"}, Kind.AMBIGUOUS, "timeout"),
    ("garbage after the dot", {"dot": "accept-then-garbage"}, Kind.AMBIGUOUS, "unreadable"),
    ("over-long line after the dot", {"dot": "accept-then-overlong"}, Kind.AMBIGUOUS, "network"),
    ("354 after the dot", {"dot": "354 go on"}, Kind.AMBIGUOUS, "unreadable"),
    ("251 after the dot", {"dot": "251 2.0.0 forwarded"}, Kind.SENT, "251"),
]


@pytest.mark.parametrize(("script", "kind", "code"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_what_the_server_does_decides_the_outcome(smtp_line: OpenLine, script: dict[str, Any], kind: Kind, code: str):
    with SMTPFaultServer(script) as server:
        # After the final dot a timeout of the project's is not used: the deadline ends a hang there.
        seconds = 0.4 if "hang" in str(script.get("dot")) else 20
        line = smtp_line(server, timeout=0.3 if "hang" in script.values() else 5)

        outcome = line.deliver(a_parcel(seconds=seconds))
        line.close()

    expected = "deadline" if seconds < 1 else code
    assert (outcome.kind, outcome.code) == (kind, expected), outcome
    if kind is not Kind.AMBIGUOUS:
        assert len(server.journal) == (1 if kind is Kind.SENT else 0)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        pytest.param({"auth": "535 5.7.8 bad credentials"}, Kind.MAILER, id="535"),
        pytest.param({"auth": "534 5.7.9 stronger mechanism"}, Kind.MAILER, id="534"),
        pytest.param({"auth": "530 5.7.0 encrypt first"}, Kind.MAILER, id="530"),
        pytest.param({"auth": "538 5.7.11 encrypt first"}, Kind.MAILER, id="538"),
        pytest.param({"auth": "454 4.7.0 temporary"}, Kind.TRANSIENT, id="454"),
        pytest.param({"auth": "drop"}, Kind.MAILER, id="drop"),
        pytest.param({"ehlo": "250 fault.example"}, Kind.MAILER, id="not offered"),
        pytest.param({"ehlo": "250-fault.example\n250 AUTH NTLM"}, Kind.MAILER, id="nothing we can speak"),
        pytest.param({}, Kind.SENT, id="welcome"),
    ],
)
def test_a_refused_login_is_the_mailers_trouble(smtp_line: OpenLine, script: dict[str, Any], kind: Kind):
    with SMTPFaultServer(script) as server:
        outcome = smtp_line(server, **LOGIN).deliver(a_parcel())

    assert outcome.kind is kind, outcome
    assert len(server.journal) == (kind is Kind.SENT)


def test_starttls_that_is_not_offered_never_falls_back_to_plain_text(smtp_line: OpenLine):
    with SMTPFaultServer() as server:
        outcome = smtp_line(server, use_tls=True).deliver(a_parcel())

    assert (outcome.kind, outcome.code) == (Kind.MAILER, "not supported")
    assert [command for command in server.commands if not command.lower().startswith("ehlo")] == []


def test_a_failed_tls_handshake_is_the_mailers_trouble(smtp_line: OpenLine):
    with SMTPFaultServer() as server:
        outcome = smtp_line(server, use_ssl=True).deliver(a_parcel())

    assert (outcome.kind, outcome.code) == (Kind.MAILER, "tls")


def test_a_refused_connection_is_the_mailers_trouble(smtp_line: OpenLine):
    with SMTPFaultServer() as server:
        pass

    outcome = smtp_line(server).deliver(a_parcel())

    assert (outcome.kind, outcome.code) == (Kind.MAILER, "connect")


def test_a_host_without_an_address_is_the_mailers_trouble(open_line: OpenLine, monkeypatch: pytest.MonkeyPatch):
    def no_such_host(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr("socket.getaddrinfo", no_such_host)
    line = open_line("django.core.mail.backends.smtp.EmailBackend", host="mail.invalid", port=25)

    outcome = line.deliver(a_parcel())

    assert (outcome.kind, outcome.code) == (Kind.MAILER, "dns")


@pytest.mark.parametrize("action", ["drop", "rst", "451 4.3.0 enough"])
def test_a_connection_lost_in_the_body_sent_nothing(smtp_line: OpenLine, action: str):
    message = a_message(body=BIG)
    with SMTPFaultServer({"body": action}) as server:
        outcome = smtp_line(server).deliver(a_parcel(message))

    assert outcome.kind is Kind.TRANSIENT, outcome
    assert server.journal == []


def test_an_address_that_needs_smtputf8_is_the_messages_fault(open_line: OpenLine):
    with SMTPFaultServer() as server:
        backend = "tests.delivery.backends.UTF8Backend"
        outcome = open_line(backend, host=server.host, port=server.port).deliver(a_parcel())

    assert (outcome.kind, outcome.code) == (Kind.PERMANENT, "not supported")
    assert server.journal == []


@pytest.mark.parametrize("quit_action", ["drop", "hang", "garbage", "overlong", "451 4.3.0 no", "rst"])
def test_whatever_happens_at_quit_the_message_is_sent(smtp_line: OpenLine, quit_action: str):
    with SMTPFaultServer({"quit": quit_action}) as server:
        line = smtp_line(server, line_options={"messages_per_connection": 1})
        outcome = line.deliver(a_parcel())

    assert outcome.kind is Kind.SENT
    assert not line.is_open
    assert len(server.journal) == 1


class TestRecipients:
    """Each recipient has a fate of its own."""

    def test_some_refused_is_partial(self, smtp_line: OpenLine):
        refused = {"gone@example.com": "550 5.1.1 no such user", "full@example.com": "452 4.2.2 mailbox full"}
        with SMTPFaultServer({"rcpt": refused}) as server:
            line = smtp_line(server)
            outcome = line.deliver(
                a_parcel(a_message("ann@example.com", "Gone <Gone@example.com>", "full@example.com"))
            )

        assert outcome.kind is Kind.PARTIAL
        assert {who: (what.code, what.for_good) for who, what in outcome.refused.items()} == {
            "gone@example.com": ("550", True),
            "full@example.com": ("452", False),
        }
        assert server.journal[0].recipients == ("ann@example.com",)

    @pytest.mark.parametrize("too_many", ["452 4.5.3 too many recipients", "552 too many recipients", "552 5.5.3 no"])
    def test_too_many_recipients_are_refused_for_now(self, smtp_line: OpenLine, too_many: str):
        with SMTPFaultServer({"rcpt": [None, too_many, too_many]}) as server:
            outcome = smtp_line(server).deliver(a_parcel(a_message("a@x.example", "b@x.example", "c@x.example")))

        assert outcome.kind is Kind.PARTIAL
        assert [what.for_good for what in outcome.refused.values()] == [False, False]

    def test_a_252_is_no_refusal(self, smtp_line: OpenLine):
        with SMTPFaultServer({"rcpt": ["252 cannot verify"]}) as server:
            outcome = smtp_line(server).deliver(a_parcel(a_message("a@x.example", "b@x.example")))

        assert outcome.kind is Kind.SENT
        assert server.journal[0].recipients == ("a@x.example", "b@x.example")

    def test_all_refused_one_of_them_for_now_is_tried_again(self, smtp_line: OpenLine):
        with SMTPFaultServer({"rcpt": ["550 5.1.1 unknown", "450 4.2.1 busy"]}) as server:
            outcome = smtp_line(server).deliver(a_parcel(a_message("a@x.example", "b@x.example")))

        assert (outcome.kind, outcome.code) == (Kind.TRANSIENT, "450")
        assert [what.for_good for what in outcome.refused.values()] == [True, False]
        assert server.journal == []

    def test_all_refused_for_good_is_permanent(self, smtp_line: OpenLine):
        with SMTPFaultServer({"rcpt": "550 5.1.1 unknown"}) as server:
            outcome = smtp_line(server).deliver(a_parcel(a_message("a@x.example", "b@x.example")))

        assert outcome.kind is Kind.PERMANENT
        assert set(outcome.refused) == {"a@x.example", "b@x.example"}

    def test_a_421_on_the_way_throttles_the_whole_message(self, smtp_line: OpenLine):
        with SMTPFaultServer({"rcpt": [None, "421 4.7.0 enough"]}) as server:
            outcome = smtp_line(server).deliver(a_parcel(a_message("a@x.example", "b@x.example")))

        assert outcome.kind is Kind.THROTTLED
        assert server.journal == []

    def test_greylisting_asks_for_five_minutes(self, smtp_line: OpenLine):
        with SMTPFaultServer({"rcpt": "451 4.7.1 Greylisted, try again"}) as server:
            outcome = smtp_line(server).deliver(a_parcel())

        assert outcome.kind is Kind.TRANSIENT
        assert outcome.not_before == timedelta(minutes=5)

    def test_a_refusal_for_good_is_remembered_when_the_content_fails(self, smtp_line: OpenLine):
        with SMTPFaultServer({"rcpt": ["550 5.1.1 unknown"], "dot": "451 4.3.0 later"}) as server:
            outcome = smtp_line(server).deliver(a_parcel(a_message("a@x.example", "b@x.example")))

        assert outcome.kind is Kind.TRANSIENT
        assert list(outcome.refused) == ["a@x.example"]

    def test_only_those_still_open_are_written_to_under_the_same_headers(self, smtp_line: OpenLine):
        message = a_message("ann@example.com", cc=["Bob <BOB@example.com>"], bcc=["cy@example.com"])
        with SMTPFaultServer() as server:
            outcome = smtp_line(server).deliver(a_parcel(message, only=frozenset({"bob@example.com"})))

        assert outcome.kind is Kind.SENT
        assert [address.lower() for address in server.journal[0].recipients] == ["bob@example.com"]
        assert server.journal[0].header("To") == "ann@example.com"

    def test_nobody_is_written_to_twice(self, smtp_line: OpenLine):
        message = a_message("ann@example.com", cc=["ann@example.com"])
        with SMTPFaultServer() as server:
            smtp_line(server).deliver(a_parcel(message))

        assert server.journal[0].recipients == ("ann@example.com",)

    def test_an_open_recipient_whom_the_message_does_not_name_is_no_reason_to_cancel(self, smtp_line: OpenLine):
        with SMTPFaultServer() as server:
            outcome = smtp_line(server).deliver(a_parcel(only=frozenset({"else@example.com"})))

        assert (outcome.kind, outcome.code) == (Kind.PERMANENT, "no recipients")
        assert server.connections == 0

    def test_a_message_to_nobody_is_cancelled_unopened(self, smtp_line: OpenLine):
        with SMTPFaultServer() as server:
            outcome = smtp_line(server).deliver(a_parcel(EmailMessage("Hello", "Hello")))

        assert (outcome.kind, outcome.code) == (Kind.CANCELLED, "no recipients")
        assert server.connections == 0


def test_what_the_server_says_is_kept_short_and_without_addresses(smtp_line: OpenLine):
    said = "550-5.1.1 <ann@example.com>: \x00 no such\n550 5.1.1 user " + "x" * 1000
    with SMTPFaultServer({"dot": said}) as server:
        outcome = smtp_line(server).deliver(a_parcel())

    assert outcome.text.startswith("5.1.1 <***@example.com>: no such 5.1.1 user xxx")
    assert len(outcome.text) == 256


class TestOnTheWire:
    """What the server gets is what smtplib would have sent."""

    def test_lines_that_begin_with_a_dot_arrive_as_they_were(self, smtp_line: OpenLine):
        with SMTPFaultServer() as server:
            smtp_line(server).deliver(a_parcel(a_message(body=".hidden\n.\n..\n\n.")))

        assert server.journal[0].data.endswith(b"\r\n\r\n.hidden\r\n.\r\n..\r\n\r\n.\r\n")

    @pytest.mark.parametrize("trick", ["\r.\r", "\n.\n", "\r\n.\r", "\r\n.\r\nMAIL FROM:<evil@example.com>\r\n"])
    def test_no_message_can_be_smuggled(self, smtp_line: OpenLine, trick: str):
        with SMTPFaultServer() as server:
            smtp_line(server).deliver(a_parcel(a_message(body=f"before{trick}after")))

        assert len(server.journal) == 1
        wire = server.journal[0].data.replace(b"\r\n", b"")
        assert b"\r" not in wire
        assert b"\n" not in wire

    def test_small_writes_are_not_held_back(self, smtp_line: OpenLine):
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            started = time.monotonic()
            for _ in range(30):
                line.deliver(a_parcel())
            took = time.monotonic() - started

        # With Nagle's algorithm the final dot waits 40 ms for the acknowledgement of the body.
        assert took < 30 * 0.03
