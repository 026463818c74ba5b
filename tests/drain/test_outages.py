"""An hour of trouble with a mailer, simulated by moving what is compared with the database's clock."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.drain import DrainResult, Engine
from mail_outbox.drain.ahead import MOST
from mail_outbox.models import MailerState, OutboxEntry, UtcNow
from tests.fakes import BAD_LOGIN
from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.processes import smtp
from tests.races.parallel import at_once
from tests.support import a_message, mailers, scripted

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

HOUR = timedelta(hours=1)
MOMENTS = ("broken_until", "recovered_at", "slowed_at", "next_slot_at")


@pytest.fixture
def workers() -> Iterator[list[Engine]]:
    """Make three workers, each with what it knows and with senders of its own."""
    engines = [Engine("default") for _ in range(3)]
    yield engines
    for engine in engines:
        engine.stop()


def look(workers: Sequence[Engine]) -> list[DrainResult]:
    """Let all workers look for work at the same moment."""
    return at_once(*[worker.run for worker in workers])


def let_pass(alias: str) -> timedelta:
    """Let the rest of the mailer pass, and return how long that was."""
    row = MailerState.objects.annotate(now=UtcNow()).get(alias=alias)
    rest = row.broken_until - row.now + timedelta(seconds=0.1)
    MailerState.objects.filter(alias=alias).update(**{name: F(name) - rest for name in MOMENTS})
    return rest


def test_a_wrong_password_costs_few_logins_and_no_message(workers):
    passwords = {"wrong": True}
    with SMTPFaultServer({"auth": lambda _: "535 5.7.8 bad credentials" if passwords["wrong"] else None}) as server:
        mailer = smtp(server)
        mailer["OPTIONS"] |= {"username": "shop", "password": "secret"}
        with mailers({"default": mailer}):
            outbox.enqueue_many(a_message(str(number)) for number in range(300))
            passed = timedelta(0)
            while passed < HOUR:
                look(workers)
                passed += let_pass("default")
            # Of each login smtplib makes a second try with the other mechanism that the server offers.
            logins = sum(command.startswith("AUTH PLAIN") for command in server.commands)

            assert len(workers) < logins == server.connections <= 20
            assert set(OutboxEntry.objects.values_list("state", "attempts")) == {(State.QUEUED, 0)}

            passwords["wrong"] = False
            let_pass("default")
            look(workers)

            assert set(OutboxEntry.objects.values_list("state", "attempts")) == {(State.SENT, 1)}
    assert len(server.journal) == 300


def test_a_provider_that_is_down_for_an_hour_costs_probes_and_nothing_else(workers):
    count = 10_000 if connection.vendor == "sqlite" else 1000
    with scripted("default", "bulk") as providers:
        providers["bulk"].will_always(BAD_LOGIN)
        for start in range(0, count, 500):
            outbox.enqueue_many((a_message(str(start + number)) for number in range(500)), using="bulk")
        passed, tried, rounds = timedelta(0), 0, 0
        while passed < HOUR:
            outbox.enqueue_many(a_message() for _ in range(20))
            results = look(workers)
            tried += sum(result.mailer for result in results)
            rounds += 1
            assert sum(result.sent for result in results) == 20
            passed += let_pass("bulk")

        assert rounds <= tried <= rounds + len(workers) - 1, "more than one probe in a pause"
        assert set(OutboxEntry.objects.filter(using="bulk").values_list("state", "attempts")) == {(State.QUEUED, 0)}

        providers["bulk"].will_always(None)
        let_pass("bulk")
        results = look(workers)

        assert sum(result.sent for result in results) == count
        order = [int(subject) for subject in providers["bulk"].subjects]
        off = sorted(abs(number - place) for place, number in enumerate(order))
        in_flight = 8 + MOST
        assert off[int(count * 0.99)] <= in_flight * len(workers)
    assert set(OutboxEntry.objects.values_list("state", "attempts")) == {(State.SENT, 1)}
