"""What failed for now: whether it was the mailer's own trouble, so that another mailer may do."""

from typing import Any

import pytest

from mail_outbox.core.outcomes import Outcome, Transient
from tests.delivery.conftest import BIG, OpenLine, a_message, a_parcel
from tests.delivery.esps import MAILGUN_OK, POSTMARK_OK
from tests.faults.http_server import Answer, HTTPFaultServer
from tests.faults.smtp_server import SMTPFaultServer

LOGIN = {"username": "shop", "password": "secret"}


@pytest.mark.parametrize(
    ("script", "options"),
    [
        pytest.param({"connect": "450 4.3.2 not now"}, {}, id="banner 450"),
        pytest.param({"auth": "454 4.7.0 temporary"}, LOGIN, id="AUTH 454"),
        pytest.param({"ehlo": "450 later"}, {}, id="EHLO 450"),
        pytest.param({"ehlo": "drop"}, {}, id="drop at EHLO"),
        pytest.param({"ehlo": "hang"}, {}, id="hang at EHLO"),
        pytest.param({"mail": "drop"}, {}, id="drop at MAIL"),
        pytest.param({"mail": "garbage"}, {}, id="garbage at MAIL"),
        pytest.param({"mail": "overlong"}, {}, id="over-long line at MAIL"),
        pytest.param({"mail": "451 4.3.0 mail system trouble"}, {}, id="MAIL 451 4.3.0"),
        pytest.param({"mail": "452 4.3.1 insufficient storage"}, {}, id="MAIL 452 4.3.1"),
        pytest.param({"rcpt": "drop"}, {}, id="drop at RCPT"),
        pytest.param({"data": "451 4.3.0 mail system trouble"}, {}, id="DATA 451 4.3.0"),
        pytest.param({"data": "hang"}, {}, id="hang before 354"),
        pytest.param({"body": "drop"}, {}, id="drop in the body"),
        pytest.param({"body": "rst"}, {}, id="reset in the body"),
    ],
)
def test_before_the_final_dot_a_servers_own_trouble_is_the_mailers(
    smtp_line: OpenLine, script: dict[str, Any], options: dict[str, str]
):
    with SMTPFaultServer(script) as server:
        line = smtp_line(server, timeout=1.0 if "hang" in script.values() else 5, **options)

        outcome = line.deliver(a_parcel(a_message(body=BIG)))
        line.close()

    assert isinstance(outcome, Transient), outcome
    assert outcome.is_mailers
    assert not server.journal


def test_a_deadline_that_passes_during_the_conversation_is_the_mailers(smtp_line: OpenLine):
    with SMTPFaultServer({"rcpt": "hang"}) as server:
        line = smtp_line(server, timeout=30)
        outcome = line.deliver(a_parcel(seconds=1.5))
        line.close()

    assert isinstance(outcome, Transient), outcome
    assert outcome.is_mailers


@pytest.mark.parametrize(
    "script",
    [
        pytest.param({"mail": "451 4.1.8 sender's domain not found"}, id="MAIL, about the sender"),
        pytest.param({"mail": "451 later"}, id="MAIL, about who knows what"),
        pytest.param({"rcpt": "450 4.2.0 greylisted, come back"}, id="RCPT, greylisted"),
        pytest.param({"rcpt": "452 4.2.2 mailbox full"}, id="RCPT, mailbox full"),
        pytest.param({"rcpt": "451 4.3.0 mail system trouble"}, id="RCPT, about the recipient's server"),
        pytest.param({"data": "451 4.7.1 greylisted"}, id="DATA, greylisted"),
        pytest.param({"dot": "451 4.3.0 mail system trouble"}, id="after the dot"),
    ],
)
def test_a_refusal_of_the_message_or_a_recipient_is_not(smtp_line: OpenLine, script: dict[str, Any]):
    with SMTPFaultServer(script) as server:
        line = smtp_line(server)
        outcome = line.deliver(a_parcel())
        line.close()

    assert isinstance(outcome, Transient), outcome
    assert not outcome.is_mailers


def test_a_message_that_comes_too_late_is_not(smtp_line: OpenLine):
    with SMTPFaultServer() as server:
        outcome = smtp_line(server).deliver(a_parcel(seconds=-1))

    assert isinstance(outcome, Transient)
    assert not outcome.is_mailers


def post(esp_line: OpenLine, answer: Answer) -> Outcome:
    """Return what the answer to a message through Mailgun comes to."""
    with HTTPFaultServer(answer, default=MAILGUN_OK) as server:
        line = esp_line("mailgun", server)
        outcome = line.deliver(a_parcel())
        line.close()
    return outcome


@pytest.mark.parametrize("status", [500, 503])
def test_over_http_an_error_of_the_providers_own_is_the_mailers(esp_line: OpenLine, status: int):
    outcome = post(esp_line, Answer(status, {"Message": "oops"}, {"Retry-After": "60"}))

    assert isinstance(outcome, Transient), outcome
    assert outcome.is_mailers


@pytest.mark.parametrize("status", [408, 409])
def test_over_http_a_refusal_for_now_is_not(esp_line: OpenLine, status: int):
    outcome = post(esp_line, Answer(status, {"Message": "in progress"}))

    assert isinstance(outcome, Transient), outcome
    assert not outcome.is_mailers


def test_a_provider_under_maintenance_is_in_trouble_of_its_own(esp_line: OpenLine):
    with HTTPFaultServer(Answer(422, {"ErrorCode": 100, "Message": "Maintenance"}), default=POSTMARK_OK) as server:
        line = esp_line("postmark", server)
        outcome = line.deliver(a_parcel())
        line.close()

    assert isinstance(outcome, Transient), outcome
    assert outcome.is_mailers
