"""A line opens its mailer when needed, keeps it, closes it, and never raises."""

import logging
import time
from dataclasses import replace
from typing import Any

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery import NotNow
from tests.delivery import backends
from tests.delivery.conftest import BIG, OpenLine, SetMailers, a_message, a_parcel
from tests.faults.smtp_server import SMTPFaultServer

pytestmark = pytest.mark.usefixtures("pipelining")

HERE = "tests.delivery.backends"
FOREIGN = f"{HERE}.ForeignBackend"


@pytest.fixture(autouse=True)
def _forget_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.ForeignBackend, "sent", [])
    monkeypatch.setattr(backends.StrangeConnectionBackend, "closed", [])


def wait_until(condition: Any, *, seconds: float = 120.0) -> None:
    """Wait for a condition."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it never happened"
        time.sleep(0.005)


class TestConnection:
    """Opened late, kept, closed in time."""

    def test_it_is_opened_once_and_kept(self, smtp_line: OpenLine):
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            assert not line.is_open
            kinds = [line.deliver(a_parcel()).kind for _ in range(5)]

            assert kinds == [Kind.SENT] * 5
            assert line.is_open
            assert server.connections == 1

    def test_it_is_closed_after_so_many_messages(self, smtp_line: OpenLine):
        with SMTPFaultServer() as server:
            line = smtp_line(server, line_options={"messages_per_connection": 2})
            for _ in range(5):
                line.deliver(a_parcel())
            line.close()

            assert server.connections == 3
            assert sum(command.lower() == "quit" for command in server.commands) == 3

    def test_a_gate_is_asked_when_it_is_open_and_before_anything_is_said_of_the_message(self, smtp_line: OpenLine):
        with SMTPFaultServer() as server:
            line, heard = smtp_line(server), []

            outcome = line.deliver(replace(a_parcel(), gate=lambda: heard.append(list(server.commands))))

            assert outcome.kind is Kind.SENT
            assert [[command.split()[0].lower() for command in commands] for commands in heard] in ([[]], [["ehlo"]])
            assert server.connections == 1

    def test_a_gate_that_is_shut_sends_nothing_and_keeps_it(self, smtp_line: OpenLine):
        def refuse() -> None:
            raise NotNow

        with SMTPFaultServer() as server:
            line = smtp_line(server)

            with pytest.raises(NotNow):
                line.deliver(replace(a_parcel(), gate=refuse))

            assert line.is_open
            assert line.deliver(a_parcel()).kind is Kind.SENT
            assert server.connections == 1
            assert len(server.journal) == 1

    def test_an_explicit_refusal_keeps_it(self, smtp_line: OpenLine):
        script = {"mail": ["550 5.7.1 no"], "rcpt": ["550 5.1.1 no"], "dot": ["451 4.3.0 later"]}
        with SMTPFaultServer(script) as server:
            line = smtp_line(server)
            kinds = [line.deliver(a_parcel()).kind for _ in range(4)]

            assert kinds == [Kind.PERMANENT, Kind.PERMANENT, Kind.TRANSIENT, Kind.SENT]
            assert server.connections == 1

    @pytest.mark.parametrize(
        "script", [{"data": ["451 4.3.0 later"]}, {"dot": ["drop"]}, {"dot": ["garbage"]}, {"mail": ["421 4.7.0 slow"]}]
    )
    def test_anything_else_drops_it(self, smtp_line: OpenLine, script: dict[str, Any]):
        with SMTPFaultServer(script) as server:
            line = smtp_line(server)
            line.deliver(a_parcel())
            assert not line.is_open
            outcome = line.deliver(a_parcel())

            assert outcome.kind is Kind.SENT
            assert server.connections == 2

    @pytest.mark.parametrize("goodbye", ["drop", "421 4.4.2 idle for too long"])
    def test_one_that_the_server_has_closed_meanwhile_is_opened_anew(self, smtp_line: OpenLine, goodbye: str):
        def leave(context: Any) -> str | None:
            return None if context.connection > 1 else goodbye

        with SMTPFaultServer({"rset": leave}) as server:
            line = smtp_line(server)
            line.deliver(a_parcel())
            connection = line._carrier.backend.connection
            connection.sock.sendall(b"RSET\r\n")  # in place of a server that grows tired of waiting
            wait_until(lambda: server.open_connections == 0)
            outcome = line.deliver(a_parcel())

            assert outcome.kind is Kind.SENT
            assert (server.connections, len(server.journal)) == (2, 2)

    def test_one_that_the_server_closes_this_very_moment_is_opened_anew(
        self, smtp_line: OpenLine, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("mail_outbox.delivery.smtp.is_alive", lambda backend: True)
        with SMTPFaultServer({"mail": [None, "drop"]}) as server:
            line = smtp_line(server)
            kinds = [line.deliver(a_parcel()).kind for _ in range(2)]

            assert kinds == [Kind.SENT, Kind.SENT]
            assert (server.connections, len(server.journal)) == (2, 2)

    def test_a_fresh_one_that_is_dropped_is_not_tried_again(self, smtp_line: OpenLine):
        with SMTPFaultServer({"mail": "drop"}) as server:
            outcome = smtp_line(server).deliver(a_parcel())

            assert outcome.kind is Kind.TRANSIENT
            assert server.connections == 1

    def test_mailer_trouble_makes_the_mailer_anew(self, smtp_line: OpenLine, set_mailers: SetMailers):
        with SMTPFaultServer({"mail": ["530 5.7.0 authenticate first"]}) as server:
            line = smtp_line(server)
            assert line.deliver(a_parcel()).kind is Kind.MAILER
            set_mailers({"m": {"BACKEND": FOREIGN}})
            assert line.deliver(a_parcel()).kind is Kind.SENT

        assert len(backends.ForeignBackend.sent) == 1

    def test_closing_never_raises(self, open_line: OpenLine, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.DEBUG, "mail_outbox.delivery")
        line = open_line(f"{HERE}.ClumsyBackend")
        line.deliver(a_parcel())

        line.close()
        line.close()

        assert [record.levelname for record in caplog.records] == ["DEBUG"]


class TestDescendantsOfDjangosBackend:
    """Projects' own SMTP backends are understood as Django's is."""

    def test_a_connection_of_its_own_making_is_tracked(self, open_line: OpenLine):
        with SMTPFaultServer({"dot": ["drop"], "body": [None, "drop"]}) as server:
            line = open_line(f"{HERE}.OwnConnectionBackend", host=server.host, port=server.port)
            kinds = [line.deliver(a_parcel(a_message(body=body))).kind for body in ("small", BIG, "small")]

        assert kinds == [Kind.AMBIGUOUS, Kind.TRANSIENT, Kind.SENT]

    @pytest.mark.parametrize("backend", ["OneByOneBackend", "QuietOneByOneBackend"])
    def test_one_message_in_several_parts_is_ambiguous_when_a_later_part_fails(self, open_line: OpenLine, backend: str):
        with SMTPFaultServer({"mail": [None, "451 4.3.0 later"]}) as server:
            line = open_line(f"{HERE}.{backend}", host=server.host, port=server.port)
            outcome = line.deliver(a_parcel(a_message("a@x.example", "b@x.example")))

        assert outcome.kind is Kind.AMBIGUOUS
        assert len(server.journal) == 1

    def test_a_late_login_that_fails_is_the_mailers_trouble(self, open_line: OpenLine):
        with SMTPFaultServer({"auth": "535 5.7.8 bad credentials"}) as server:
            outcome = open_line(f"{HERE}.LateLoginBackend", host=server.host, port=server.port).deliver(a_parcel())

        assert (outcome.kind, outcome.code) == (Kind.MAILER, "535")

    def test_a_connection_that_we_cannot_look_into_makes_a_foreign_mailer(self, open_line: OpenLine):
        line = open_line(f"{HERE}.StrangeConnectionBackend", host="localhost")

        outcome = line.deliver(a_parcel())

        assert outcome.kind is Kind.AMBIGUOUS
        assert not line.is_open
        assert len(backends.StrangeConnectionBackend.closed) == 1

    def test_a_bug_after_the_server_took_the_message_changes_nothing(self, open_line: OpenLine):
        with SMTPFaultServer() as server:
            outcome = open_line(f"{HERE}.BrokenAfterwardsBackend", host=server.host, port=server.port).deliver(
                a_parcel()
            )

        assert outcome.kind is Kind.SENT

    @pytest.mark.parametrize(
        ("script", "kind"),
        [
            ({"mail": "550 5.7.1 no"}, Kind.TRANSIENT),
            ({"dot": "451 4.3.0 later"}, Kind.TRANSIENT),
            ({"dot": "accept-then-drop"}, Kind.AMBIGUOUS),
        ],
    )
    def test_an_error_kept_silent_is_no_cancellation(self, open_line: OpenLine, script: dict[str, Any], kind: Kind):
        with SMTPFaultServer(script) as server:
            outcome = open_line(f"{HERE}.QuietBackend", host=server.host, port=server.port).deliver(a_parcel())

        assert outcome.kind is kind

    def test_fail_silently_is_not_obeyed(self, smtp_line: OpenLine):
        with SMTPFaultServer({"dot": "550 5.7.1 no"}) as server:
            outcome = smtp_line(server, fail_silently=True).deliver(a_parcel())

        assert outcome.kind is Kind.PERMANENT


class TestBuilding:
    """A message that cannot be built is at fault itself, and no connection is opened for it."""

    @pytest.mark.parametrize(
        "fields",
        [
            {"subject": "two\nlines"},
            {"headers": {"X-Trick": "two\nlines"}},
            {"alternatives": [("<p>x</p>", "nonsense")]},
            {"from_email": "two\nlines@example.com"},
        ],
    )
    def test_bad_content_is_permanent(self, smtp_line: OpenLine, fields: dict[str, Any]):
        with SMTPFaultServer() as server:
            outcome = smtp_line(server).deliver(a_parcel(a_message(**fields)))

        assert (outcome.kind, outcome.code) == (Kind.PERMANENT, "build")
        assert server.connections == 0

    @pytest.mark.parametrize("to", ["not an address@", "jürgen@example.com", ""])
    def test_a_bad_address_is_permanent_or_nobodys(self, smtp_line: OpenLine, to: str):
        with SMTPFaultServer() as server:
            outcome = smtp_line(server).deliver(a_parcel(a_message(to)))

        assert outcome.kind in (Kind.PERMANENT, Kind.CANCELLED, Kind.SENT)
        assert len(server.journal) == (outcome.kind is Kind.SENT)

    def test_an_attachment_that_is_gone_may_come_back(self, smtp_line: OpenLine):
        class Stored(EmailMultiAlternatives):
            def message(self, **options: Any) -> Any:
                raise FileNotFoundError("invoice.pdf")

        with SMTPFaultServer() as server:
            outcome = smtp_line(server).deliver(a_parcel(Stored("Hello", "Hello", to=["ann@example.com"])))

        assert (outcome.kind, outcome.code) == (Kind.TRANSIENT, "attachment")
        assert server.connections == 0


def test_a_message_that_takes_too_long_to_build_is_not_begun(smtp_line: OpenLine):
    class Slow(EmailMessage):
        def message(self, **options: Any) -> Any:
            time.sleep(0.15)
            return super().message(**options)

    with SMTPFaultServer() as server:
        parcel = a_parcel(Slow("Hello", "Hello", "shop@example.com", ["ann@example.com"]), seconds=0.1)
        outcome = smtp_line(server).deliver(parcel)

    assert (outcome.kind, outcome.code) == (Kind.TRANSIENT, "deadline")
    assert server.connections == 0
