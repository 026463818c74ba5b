"""An attempt over SMTP ends in time, whatever the server does."""

import time
from typing import Any

import pytest

from mail_outbox.core.outcomes import Kind
from tests.delivery.conftest import BIG, OpenLine, a_message, a_parcel
from tests.faults.smtp_server import SMTPFaultServer

LOGIN = {"username": "shop", "password": "secret"}


class TestDeadline:
    """An attempt ends in time, whatever the server does."""

    @pytest.mark.parametrize("step", ["connect", "ehlo", "auth", "mail", "rcpt", "data", "dot", "rset"])
    @pytest.mark.parametrize("action", ["hang", ("slow", 0.05)], ids=["hang", "trickle"])
    def test_a_server_that_takes_its_time_is_left(self, smtp_line: OpenLine, step: str, action: Any):
        script = {step: action} | ({"rcpt": "550 5.1.1 unknown"} if step == "rset" else {})
        with SMTPFaultServer(script) as server:
            line = smtp_line(server, **(LOGIN if step == "auth" else {}))
            started = time.monotonic()
            outcome = line.deliver(a_parcel(seconds=0.25))
            took = time.monotonic() - started

        assert 0.2 < took < 1.3
        match step:
            case "connect" | "auth":
                assert outcome.kind is Kind.MAILER
            case "dot":
                assert outcome.kind is Kind.AMBIGUOUS
            case "rset":
                assert outcome.kind is Kind.PERMANENT
            case _:
                assert outcome.kind is Kind.TRANSIENT
                assert server.journal == []
        assert not line.is_open

    @pytest.mark.parametrize("action", ["hang", ("slow", 0.05)], ids=["hang", "trickle"])
    def test_a_server_that_does_not_read_the_body_is_left(self, smtp_line: OpenLine, action: Any):
        message = a_message(body=BIG)
        with SMTPFaultServer({"body": action}) as server:
            line = smtp_line(server)
            started = time.monotonic()
            outcome = line.deliver(a_parcel(message, seconds=0.8))
            took = time.monotonic() - started

        assert (outcome.kind, outcome.code) == (Kind.TRANSIENT, "deadline")
        assert took < 2
        assert server.journal == []

    def test_what_comes_too_late_is_not_begun(self, smtp_line: OpenLine):
        with SMTPFaultServer() as server:
            outcome = smtp_line(server).deliver(a_parcel(seconds=-1))

        assert (outcome.kind, outcome.code) == (Kind.TRANSIENT, "deadline")
        assert server.connections == 0

    def test_the_deadline_is_looked_at_right_before_the_final_dot(
        self, smtp_line: OpenLine, monkeypatch: pytest.MonkeyPatch
    ):
        def stuff_for_ever(content: bytes) -> bytes:
            time.sleep(max(0.0, parcel.deadline - time.monotonic()) + 0.01)
            return b"Subject: late\r\n"

        monkeypatch.setattr("mail_outbox.delivery.smtp.dot_stuffed", stuff_for_ever)
        monkeypatch.setattr("mail_outbox.delivery.smtp.Tracked.patience", lambda self: 5.0)
        with SMTPFaultServer() as server:
            line, parcel = smtp_line(server), a_parcel(seconds=0.3)
            outcome = line.deliver(parcel)

        assert (outcome.kind, outcome.code) == (Kind.TRANSIENT, "deadline")
        assert server.journal == []

    def test_after_the_final_dot_the_projects_timeout_is_too_short_to_give_up(self, smtp_line: OpenLine):
        with SMTPFaultServer(latency=0.5) as server:
            outcome = smtp_line(server, timeout=0.2).deliver(a_parcel())

        assert outcome.kind is Kind.SENT
