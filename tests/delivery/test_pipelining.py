"""MAIL, RCPT and DATA go in one piece where the server takes them so, and nothing else is different."""

import smtplib
from contextlib import closing
from typing import Any

import pytest

from mail_outbox.conf import get_conf
from mail_outbox.core.outcomes import Kind, Outcome
from mail_outbox.delivery import Line
from mail_outbox.delivery.pipelining import MOST
from mail_outbox.delivery.smtp import Tracked, tracked
from tests.delivery.conftest import SMTP, OpenLine, SetMailers, a_message, a_parcel
from tests.faults import Hangup, Peer
from tests.faults.smtp_server import Session, SMTPFaultServer

TO = ("ann@x.example", "Bob <bob@x.example>", "cy@x.example")


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list of what is sent in one piece each, as it fills."""
    sent: list[bytes] = []
    send = Tracked.send

    def note(self: Tracked, piece: Any) -> None:
        sent.append(piece if isinstance(piece, bytes) else piece.encode())
        send(self, piece)

    monkeypatch.setattr(Tracked, "send", note)
    return sent


@pytest.fixture
def _announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SMTPFaultServer, "is_pipelining", True)


class Strict(SMTPFaultServer):
    """Announces PIPELINING, and hangs up on whoever says something before the last thing is answered."""

    is_pipelining = True

    def _obey(self, peer: Peer, session: Session, verb: str, argument: str) -> None:
        peer.sock.setblocking(False)
        ahead = peer.reader.peek(1)
        peer.sock.setblocking(True)
        if ahead:
            peer.write(b"554 5.5.0 synchronisation error\r\n")
            raise Hangup
        super()._obey(peer, session, verb, argument)


def deliver(line: Line, *to: str) -> Outcome:
    return line.deliver(a_parcel(a_message(*to)))


def test_the_server_hears_the_same_either_way(
    smtp_line: OpenLine, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]
):
    heard, rounds = [], []
    for is_announced in (False, True):
        monkeypatch.setattr(SMTPFaultServer, "is_pipelining", is_announced)
        pieces.clear()
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            outcomes = [deliver(line, *TO), deliver(line, *TO[:2])]
            line.close()
        assert {outcome.kind for outcome in outcomes} == {Kind.SENT}
        # Versions of smtplib differ in capitals.
        heard.append(
            ([command.lower() for command in server.commands], [accepted.recipients for accepted in server.journal])
        )
        rounds.append(len(pieces))

    assert heard[0] == heard[1]
    assert rounds[0] - rounds[1] == len(TO) + 1 + 3


@pytest.mark.usefixtures("_announced")
class TestInOnePiece:
    def test_the_content_waits_for_the_answer(self, smtp_line: OpenLine, pieces: list[bytes]):
        with SMTPFaultServer({"data": "451 4.3.0 later"}) as server:
            outcome = deliver(smtp_line(server))

        assert outcome.kind is Kind.TRANSIENT
        assert [piece for piece in pieces if piece.endswith(b"data\r\n")] == [pieces[-1]]

    @pytest.mark.parametrize("script", [{"mail": "550 5.7.1 not you"}, {"rcpt": "550 5.1.1 unknown"}])
    def test_what_is_refused_leaves_a_conversation_that_can_go_on(self, smtp_line: OpenLine, script: dict[str, str]):
        (step, refusal) = next(iter(script.items()))
        with SMTPFaultServer({step: [refusal]}) as server:
            line = smtp_line(server)
            outcomes = [deliver(line), deliver(line)]
            line.close()

        assert [outcome.kind for outcome in outcomes] == [Kind.PERMANENT, Kind.SENT]
        assert [command for command in server.commands if command.startswith("ehlo")] == server.commands[:1]
        assert len(server.journal) == 1

    def test_a_server_that_wants_content_for_nobody_is_hung_up_on(self, smtp_line: OpenLine, pieces: list[bytes]):
        # To smtplib a 252 is none of those that are accepted; to the server it is a recipient.
        with SMTPFaultServer({"rcpt": ["252 cannot verify"]}) as server:
            line = smtp_line(server)
            deliver(line)
            assert not line.is_open
            assert pieces[-1].endswith(b"data\r\n")
            again = deliver(line)

        assert again.kind is Kind.SENT
        assert len(server.journal) == 1

    def test_a_sender_that_is_refused_is_no_recipients_fault(self, smtp_line: OpenLine):
        with SMTPFaultServer({"mail": "451 4.1.8 later"}) as server:
            outcome = deliver(smtp_line(server), *TO)

        assert (outcome.kind, outcome.code, outcome.refused) == (Kind.TRANSIENT, "451", {})

    def test_addresses_out_of_the_ordinary_go_one_by_one(self, smtp_line: OpenLine, pieces: list[bytes]):
        with SMTPFaultServer() as server:
            outcome = deliver(smtp_line(server), '"a b"@x.example')

        assert outcome.kind is Kind.SENT
        assert b"data\r\n" in pieces

    def test_more_than_lies_between_the_two_goes_one_by_one(self, smtp_line: OpenLine, pieces: list[bytes]):
        to = [f"{number:030}@x.example" for number in range(MOST // 30)]
        with SMTPFaultServer() as server:
            outcome = deliver(smtp_line(server), *to)

        assert outcome.kind is Kind.SENT
        assert server.journal[0].recipients == tuple(to)
        assert b"data\r\n" in pieces


def test_where_it_is_off_no_command_is_sent_ahead(smtp_line: OpenLine, pieces: list[bytes]):
    with Strict() as server:
        line = smtp_line(server, line_options={"pipelining": False})
        outcomes = [deliver(line, *TO), deliver(line)]

    assert [outcome.kind for outcome in outcomes] == [Kind.SENT, Kind.SENT]
    assert [accepted.recipients for accepted in server.journal] == [
        ("ann@x.example", "bob@x.example", "cy@x.example"),
        ("ann@example.com",),
    ]
    assert pieces.count(b"data\r\n") == 2


def test_where_it_is_on_such_a_server_gets_nothing(smtp_line: OpenLine):
    with Strict() as server:
        outcome = deliver(smtp_line(server), *TO)

    assert outcome.kind is not Kind.SENT
    assert server.journal == []


def test_the_settings_turn_it_off(set_mailers: SetMailers, settings: Any):
    with Strict() as server:
        set_mailers({"m": {"BACKEND": SMTP, "OPTIONS": {"host": server.host, "port": server.port, "timeout": 20}}})
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "MAILER_OPTIONS": {"m": {"pipelining": False}}}
        with closing(Line("m", get_conf().options_of("m"))) as line:
            assert deliver(line).kind is Kind.SENT


def test_a_class_that_talks_in_its_own_way_is_let_talk():
    class Own(smtplib.SMTP):
        def rcpt(self, recip: str, options: Any = ()) -> tuple[int, bytes]:
            return super().rcpt(recip, ["NOTIFY=NEVER"])

    assert [tracked(kind).is_smtplibs_own for kind in (smtplib.SMTP, smtplib.SMTP_SSL, Own)] == [True, True, False]
