"""What else there is to SMTP: recipients, and what goes over the wire. The table is played in tests/faults."""

import socket
import time
from datetime import timedelta
from typing import Any

import django
import pytest
from django.core.mail import EmailMessage
from django.core.mail.backends.smtp import EmailBackend
from hypothesis import given
from hypothesis import strategies as st

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery.smtp import PLAIN, instrument
from mail_outbox.delivery.trace import Trace
from tests.delivery.conftest import OpenLine, a_message, a_parcel
from tests.faults.smtp_server import SMTPFaultServer

pytestmark = pytest.mark.usefixtures("pipelining")


def test_a_host_without_an_address_is_the_mailers_trouble(open_line: OpenLine, monkeypatch: pytest.MonkeyPatch):
    def no_such_host(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr("socket.getaddrinfo", no_such_host)
    line = open_line("django.core.mail.backends.smtp.EmailBackend", host="mail.invalid", port=25)

    outcome = line.deliver(a_parcel())

    assert (outcome.kind, outcome.code) == (Kind.MAILER, "dns")


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
            took = []
            for _ in range(30):
                started = time.monotonic()
                line.deliver(a_parcel())
                took.append(time.monotonic() - started)

        # With Nagle's algorithm each final dot waits 40 ms for the acknowledgement of the body.
        assert min(took) < 0.03


@pytest.mark.skipif(django.VERSION < (6, 0), reason="before Django 6.0 addresses are prepared elsewhere")
class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            "jo@x.example",
            "jo.doe+tag@mail.x-y.example",
            "Jo <jo@x.example>",
            '"Doe, Jo" <jo@x.example>',
            "jo@jö.example",
            "webmaster",
            "jo@x.example, eve@x.example",
            "jo@x.example\r\nBcc: eve@x.example",
            "jo@x.example\n",
            ".jo@x.example",
            "jo..doe@x.example",
            "jo@",
            "",
        ],
    )
    def test_they_are_prepared_as_django_prepares_them(self, address: str):
        ours = a_backend()
        instrument(ours, Trace(mailer="default"))

        assert [prepared_by(ours, address) for _ in range(2)] == [prepared_by(a_backend(), address)] * 2

    @given(st.from_regex(PLAIN, fullmatch=True))
    def test_a_plain_one_stays_what_it_is(self, address: str):
        assert prepared_by(a_backend(), address) == address


def a_backend() -> EmailBackend:
    """Return a backend that is not open."""
    # Otherwise Django 6.1 warns that backends are not made by hand.
    return EmailBackend(host="localhost", **({"alias": "default"} if django.VERSION >= (6, 1) else {}))


def prepared_by(backend: Any, address: str) -> str | type[Exception]:
    """Return what the backend makes of the address, or the type of what it raises."""
    try:
        prepared: str = backend.prep_address(address)
    except (ValueError, IndexError) as error:
        return type(error)
    return prepared
