"""The log tells what became of entries, in constant messages and without an address."""

import logging
from datetime import timedelta
from typing import Any

import pytest

from mail_outbox import logs, outbox, signals
from mail_outbox.core.outcomes import Ambiguous
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry
from tests.fakes import NOBODY_KNOWS, REFUSED, Provider
from tests.support import a_message, age

STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    """Log everything there is."""
    caplog.set_level(logging.DEBUG, "mail_outbox")


def records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what the outbox has logged; django-q2 has something to say, too."""
    return [record for record in caplog.records if record.name.startswith("mail_outbox")]


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Return the log as (logger, level, message)."""
    return [(record.name, record.levelname, record.message) for record in records(caplog)]


def extra(caplog: pytest.LogCaptureFixture, message: str) -> dict[str, Any]:
    """Return what the one line with that message says besides."""
    [record] = [record for record in records(caplog) if record.message == message]
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


def test_a_mail_that_is_sent_is_one_line_of_information(caplog: pytest.LogCaptureFixture, provider: Provider):
    entry = outbox.enqueue(a_message())

    outbox.drain()

    assert lines(caplog) == [
        ("mail_outbox", "DEBUG", "entry enqueued"),
        ("mail_outbox.delivery", "INFO", "attempt finished"),
        ("mail_outbox", "DEBUG", "entry settled"),
    ]
    told = extra(caplog, "attempt finished")
    assert told.pop("duration_ms") >= 0
    assert told == {"entry": entry.pk, "mailer": "default", "attempt": 1, "outcome": "sent", "code": ""}
    assert extra(caplog, "entry enqueued") == {"entry": entry.pk, "mailer": "default"}


def test_what_needs_a_person_is_a_warning(caplog: pytest.LogCaptureFixture, provider: Provider):
    provider.will(REFUSED, NOBODY_KNOWS)
    outbox.enqueue(a_message())
    outbox.enqueue(a_message(), on_ambiguous="hold", priority=-1)

    outbox.drain()

    warnings = [line for line in lines(caplog) if line[1] == "WARNING"]
    assert sorted(warnings) == [
        ("mail_outbox", "WARNING", "entry settled"),
        ("mail_outbox", "WARNING", "entry settled"),
        ("mail_outbox.delivery", "WARNING", "attempt finished"),
    ]
    states = [vars(record).get("state") for record in records(caplog) if record.message == "entry settled"]
    assert sorted(map(str, states)) == ["failed", "held"]


def test_an_attempt_of_a_lost_worker_has_no_duration(caplog: pytest.LogCaptureFixture):
    entry = OutboxEntry(pk=7, using="default", attempts=2)

    signals.attempt_finished.send_robust(
        sender=OutboxEntry, entry=entry, outcome=Ambiguous(code="worker lost"), duration=None
    )

    assert extra(caplog, "attempt finished")["duration_ms"] is None


def test_no_address_and_no_text_is_logged(caplog: pytest.LogCaptureFixture, provider: Provider):
    provider.will(REFUSED)
    outbox.enqueue(a_message("Secret", body="Secret", to=["jane@example.com"], bcc=["joe@example.com"]))

    outbox.drain()

    everything = repr([vars(record) for record in records(caplog)])
    assert len(records(caplog)) == 3
    assert "@example.com" not in everything
    assert "Secret" not in everything


def test_addresses_are_logged_where_the_project_says_so(
    caplog: pytest.LogCaptureFixture, provider: Provider, settings: Any
):
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "LOG_RECIPIENTS": True}
    outbox.enqueue(a_message(to=["jane@example.com"], bcc=["joe@example.com"]))

    outbox.drain()

    for message in ("entry enqueued", "attempt finished", "entry settled"):
        assert extra(caplog, message)["recipients"] == ["jane@example.com", "joe@example.com"]


def test_a_lease_that_ran_out_is_logged_too(caplog: pytest.LogCaptureFixture, provider: Provider):
    entry = outbox.enqueue(a_message())
    OutboxEntry.objects.filter(pk=entry.pk).update(
        state=State.SENDING, claim_id=entry.uuid, lease_expires_at=entry.due_at, attempts=1
    )
    age(entry, lease_expires_at=-timedelta(hours=1))

    outbox.drain()

    assert extra(caplog, "attempt finished")["outcome"] == "ambiguous"


def test_a_logger_that_does_not_listen_costs_no_query(
    caplog: pytest.LogCaptureFixture, settings: Any, django_assert_num_queries: Any
):
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "LOG_RECIPIENTS": True}
    caplog.set_level(logging.CRITICAL, "mail_outbox")
    entry = outbox.enqueue(a_message())

    with django_assert_num_queries(0):
        logs.log_enqueued(entry=entry)
        logs.log_attempt(entry=entry, outcome=Ambiguous(code="timeout"), duration=timedelta(seconds=1))
        logs.log_settled(entry=entry, state=State.FAILED)


def test_connecting_twice_logs_once(caplog: pytest.LogCaptureFixture):
    logs.connect()

    outbox.enqueue(a_message())

    assert [record.message for record in records(caplog)] == ["entry enqueued"]
