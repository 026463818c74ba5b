"""An attempt over SMTP ends in time, whatever the server does."""

import select
import time
from typing import Any

import pytest

from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery import http, smtp
from mail_outbox.delivery.trace import Phase
from tests.delivery.conftest import BIG, OpenLine, a_message, a_parcel
from tests.delivery.esps import POSTMARK_OK
from tests.faults import HANGS, SLOW
from tests.faults.http_server import HTTPFaultServer
from tests.faults.smtp_server import SMTPFaultServer

pytestmark = pytest.mark.usefixtures("pipelining")

LOGIN = {"username": "shop", "password": "secret"}


class TestDeadline:
    """An attempt ends in time, whatever the server does."""

    @pytest.mark.parametrize("step", ["connect", "ehlo", "auth", "mail", "rcpt", "data", "dot", "rset"])
    @pytest.mark.parametrize("action", ["hang", ("slow", 0.3)], ids=["hang", "trickle"])
    def test_a_server_that_takes_its_time_is_left(self, smtp_line: OpenLine, step: str, action: Any):
        script = {step: action} | ({"rcpt": "550 5.1.1 unknown"} if step == "rset" else {})
        with SMTPFaultServer(script) as server:
            line = smtp_line(server, **(LOGIN if step == "auth" else {}))
            started = time.monotonic()
            # A busy machine must come as far as that.
            outcome = line.deliver(a_parcel(seconds=2 if step in ("dot", "rset") else 1))
            took = time.monotonic() - started

        assert 0.4 < took < HANGS
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
            outcome = line.deliver(a_parcel(message, seconds=1.5))
            took = time.monotonic() - started

        assert (outcome.kind, outcome.code) == (Kind.TRANSIENT, "deadline")
        assert took < HANGS
        assert server.journal == []

    def test_what_comes_too_late_is_not_begun(self, smtp_line: OpenLine):
        with SMTPFaultServer() as server:
            outcome = smtp_line(server).deliver(a_parcel(seconds=-1))

        assert (outcome.kind, outcome.code) == (Kind.TRANSIENT, "deadline")
        assert server.connections == 0

    def test_the_deadline_is_looked_at_right_before_the_final_dot(
        self, smtp_line: OpenLine, monkeypatch: pytest.MonkeyPatch
    ):
        def stuff_for_ever(content: bytes) -> list[bytes]:
            time.sleep(max(0.0, parcel.deadline - time.monotonic()) + 0.01)
            return [b"Subject: late\r\n"]

        monkeypatch.setattr("mail_outbox.delivery.smtp.dot_stuffed", stuff_for_ever)
        monkeypatch.setattr("mail_outbox.delivery.smtp.Tracked.patience", lambda self: 5.0)
        with SMTPFaultServer() as server:
            line, parcel = smtp_line(server), a_parcel(seconds=1.5)
            outcome = line.deliver(parcel)

        assert (outcome.kind, outcome.code) == (Kind.TRANSIENT, "deadline")
        assert server.journal == []

    def test_after_the_final_dot_the_projects_timeout_is_too_short_to_give_up(self, smtp_line: OpenLine):
        with SMTPFaultServer(latency=0.5) as server:
            outcome = smtp_line(server, timeout=0.2).deliver(a_parcel())

        assert outcome.kind is Kind.SENT


class TestStandingStill:
    """A process that was stopped when the message was out goes on past the deadline, and the answer may be there."""

    @pytest.fixture(autouse=True)
    def stand_still(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand still, past the deadline, from when an answer is waited for until some of it is there."""

        def read_late(read: Any) -> Any:
            def readinto(reader: Any, buffer: Any) -> Any:
                trace, sock = (
                    (reader._connection.trace, reader._connection.sock)
                    if isinstance(reader, smtp.Reader)
                    else (reader._trace, reader._sock)
                )
                if trace.phase in (Phase.DOT, Phase.POST) and trace.left() > 0:
                    assert select.select([sock], [], [], HANGS)[0], "no answer"
                    trace.deadline = time.monotonic() - 1
                return read(reader, buffer)

            return readinto

        for module in (smtp, http):
            monkeypatch.setattr(module.Reader, "readinto", read_late(module.Reader.readinto))

    def test_an_answer_that_is_there_is_read(self, smtp_line: OpenLine, esp_line: OpenLine):
        with SMTPFaultServer() as server:
            assert smtp_line(server).deliver(a_parcel()).kind is Kind.SENT
        with HTTPFaultServer(default=POSTMARK_OK) as server:
            assert esp_line("postmark", server).deliver(a_parcel()).kind is Kind.SENT

    def test_an_answer_of_which_a_part_is_there_is_not_waited_for(self, smtp_line: OpenLine, esp_line: OpenLine):
        with SMTPFaultServer({"dot": (SLOW, 5)}) as server:
            outcome = smtp_line(server).deliver(a_parcel())
        assert (outcome.kind, outcome.code) == (Kind.AMBIGUOUS, "deadline")
        with HTTPFaultServer((SLOW, 5), default=POSTMARK_OK) as server:
            outcome = esp_line("postmark", server).deliver(a_parcel())
        assert (outcome.kind, outcome.code) == (Kind.AMBIGUOUS, "deadline")
