"""A line can be opened without sending: what went wrong is an outcome, and nothing is left open."""

import time

import pytest

from mail_outbox.core.outcomes import Kind
from tests.delivery.conftest import OpenLine, a_parcel
from tests.faults import HANGS
from tests.faults.smtp_server import SMTPFaultServer


def soon() -> float:
    """Return a deadline that is far enough for a server on this machine."""
    return time.monotonic() + 10


def test_it_connects_says_goodbye_and_sends_nothing(smtp_line: OpenLine):
    with SMTPFaultServer() as server:
        line = smtp_line(server)

        assert line.connect(soon()) is None
        assert line.proof.startswith("the server answers, without a login")
        line.close()
        assert line.proof == ""

        assert server.connections == 1
        assert [command.lower() for command in server.commands] == ["quit"]


def test_a_refused_login_is_the_mailers_trouble(smtp_line: OpenLine):
    with SMTPFaultServer({"ehlo": ["250-fault\n250 AUTH PLAIN"], "auth": ["535 5.7.8 bad login"]}) as server:
        trouble = smtp_line(server, username="jane", password="wrong").connect(soon())

    assert trouble is not None
    assert (trouble.kind, trouble.code, trouble.text) == (Kind.MAILER, "535", "5.7.8 bad login")


def test_an_accepted_login_is_told(smtp_line: OpenLine):
    with SMTPFaultServer({"ehlo": ["250-fault\n250 AUTH PLAIN"], "auth": ["235 2.7.0 welcome"]}) as server:
        line = smtp_line(server, username="jane", password="right")

        assert line.connect(soon()) is None
        assert line.proof.startswith("the server has accepted the login")


def test_a_backend_of_which_nothing_is_known_proves_nothing(open_line: OpenLine):
    line = open_line("django.core.mail.backends.dummy.EmailBackend")

    assert line.connect(soon()) is None
    assert line.proof.startswith("its backend opens, and only a message shows")


def test_what_is_open_afterwards_can_be_used(smtp_line: OpenLine):
    with SMTPFaultServer() as server:
        line = smtp_line(server)

        assert line.connect(soon()) is None
        assert line.deliver(a_parcel()).kind is Kind.SENT
        assert server.connections == 1


def test_nobody_listening_is_the_mailers_trouble(smtp_line: OpenLine):
    with SMTPFaultServer() as server:
        line = smtp_line(server)

    trouble = line.connect(soon())

    assert trouble is not None
    assert (trouble.kind, trouble.code) == (Kind.MAILER, "connect")
    assert not line.is_open


def test_a_server_that_says_nothing_is_left_by_the_deadline(smtp_line: OpenLine):
    with SMTPFaultServer({"connect": ["hang"]}) as server:
        line = smtp_line(server, timeout=30)
        started = time.monotonic()

        trouble = line.connect(started + 0.3)

    assert trouble is not None
    assert trouble.kind is Kind.MAILER
    assert time.monotonic() - started < HANGS


@pytest.mark.parametrize("backend", ["no.such.Backend", "mail_outbox.backends.OutboxBackend"])
def test_what_cannot_be_made_is_a_matter_of_configuration(backend: str, open_line: OpenLine):
    trouble = open_line(backend).connect(soon())

    assert trouble is not None
    assert (trouble.kind, trouble.code) == (Kind.MAILER, "configuration")


def test_a_provider_over_http_is_not_asked(esp_line: OpenLine):
    class Nobody:
        url = "http://127.0.0.1:1/"

    line = esp_line("postmark", Nobody)

    assert line.connect(soon()) is None
    assert line.proof.startswith("its configuration can be read, and nothing more is proved")
