"""The database goes away in the middle of a drain, at every statement there is."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import OperationalError, connection

from mail_outbox import outbox
from mail_outbox.drain import Engine
from mail_outbox.models import Attempt, OutboxEntry
from tests.support import a_message, age, scripted

pytestmark = pytest.mark.django_db(transaction=True)


class Outage:
    """Lets some statements of a connection fail, before or after the database has carried them out."""

    def __init__(self, *, first: int, length: int = 1, answer_lost: bool = False) -> None:
        self.failing = range(first, first + length)
        self.answer_lost = answer_lost
        self.seen = 0

    @property
    def has_struck(self) -> bool:
        return self.seen >= self.failing.start

    def __call__(self, execute, sql, params, many, context):
        self.seen += 1
        strikes = self.seen in self.failing
        if not strikes or self.answer_lost:
            result = execute(sql, params, many, context)
        if strikes:
            raise OperationalError("server closed the connection unexpectedly")
        return result


@pytest.mark.parametrize("answer_lost", [False, True], ids=["refused", "answer lost"])
def test_at_whichever_statement_it_strikes_each_mail_goes_out_once_and_is_settled(answer_lost, monkeypatch):
    monkeypatch.setattr("mail_outbox.drain.engine.TROUBLE_WAIT", (0.0001, 0.001))
    statement = 0
    has_struck = True
    while has_struck:
        statement += 1
        with scripted("default") as providers:
            outbox.enqueue_many(a_message(str(number)) for number in range(3))
            with connection.execute_wrapper(outage := Outage(first=statement, answer_lost=answer_lost)):
                engine = Engine("default")
                engine.run()
            has_struck = outage.has_struck
            engine.stop()

        assert sorted(providers["default"].subjects) == ["0", "1", "2"], statement
        assert set(OutboxEntry.objects.values_list("state", "attempts")) == {("sent", 1)}, statement
        assert set(Attempt.objects.values_list("kind", flat=True)) == {"sent"}, statement
        assert Attempt.objects.count() == 3, statement
        OutboxEntry.objects.all().delete()

    assert statement > 10


@pytest.mark.parametrize("slice_length", [None, timedelta(seconds=0.05)])
def test_a_database_that_stays_away_ends_a_run_with_its_error(provider, monkeypatch, slice_length):
    monkeypatch.setattr("mail_outbox.drain.engine.TROUBLE_WAIT", (0.0001, 0.001))
    outbox.enqueue(a_message())

    engine = Engine("default")

    with connection.execute_wrapper(Outage(first=5, length=10_000)), pytest.raises(OperationalError):
        engine.run(slice_length=slice_length)

    engine.stop()

    assert provider.accepted == []


class OutageAfterClaim(Outage):
    """Begins when the entries that have just been claimed are read."""

    def __init__(self):
        super().__init__(first=0, length=0)

    def __call__(self, execute, sql, params, many, context):
        if "claim_id" in sql and sql.startswith("SELECT"):
            self.failing = range(10_000)
        return super().__call__(execute, sql, params, many, context)


def test_an_outage_that_begins_inside_a_claim_ends_a_slice_and_the_next_one_takes_the_claim_up(provider, monkeypatch):
    monkeypatch.setattr("mail_outbox.drain.engine.TROUBLE_WAIT", (0.0001, 0.001))
    engine = Engine("default")
    outbox.enqueue(a_message("x"))

    with connection.execute_wrapper(OutageAfterClaim()), pytest.raises(OperationalError):
        engine.run(slice_length=timedelta(seconds=0.05))
    assert provider.accepted == []

    engine.run()
    engine.stop()

    assert provider.subjects == ["x"]
    assert set(OutboxEntry.objects.values_list("state", "attempts")) == {("sent", 1)}


def test_an_engine_that_stops_after_an_outage_inside_a_claim_gives_it_back(provider, monkeypatch):
    monkeypatch.setattr("mail_outbox.drain.engine.TROUBLE_WAIT", (0.0001, 0.001))
    engine = Engine("default")
    outbox.enqueue(a_message("x"), on_ambiguous="hold")
    with connection.execute_wrapper(OutageAfterClaim()), pytest.raises(OperationalError):
        engine.run(slice_length=timedelta(seconds=0.05))

    engine.stop()

    assert set(OutboxEntry.objects.values_list("state", "attempts")) == {("queued", 0)}


def test_what_was_claimed_before_an_outage_longer_than_the_lease_is_not_taken_for_tried(provider, monkeypatch):
    monkeypatch.setattr("mail_outbox.drain.engine.TROUBLE_WAIT", (0.0001, 0.001))
    engine = Engine("default")
    entry = outbox.enqueue(a_message("x"), on_ambiguous="hold")
    with connection.execute_wrapper(OutageAfterClaim()), pytest.raises(OperationalError):
        engine.run(slice_length=timedelta(seconds=0.05))
    claims = engine._dispatcher.claims
    assert claims._open_claim is not None
    claims._open_claim = replace(claims._open_claim, lease_until=0.0)
    age(entry, lease_expires_at=timedelta(hours=-1))

    engine.run()
    engine.stop()

    assert provider.subjects == ["x"]
    assert set(OutboxEntry.objects.values_list("state", "attempts")) == {("sent", 1)}
    assert set(Attempt.objects.values_list("kind", flat=True)) == {"sent"}


@pytest.mark.parametrize("missing", ["table: mail_outbox_outboxentry", "column: mail_outbox_outboxentry.rank"])
def test_tables_that_sqlite_lacks_are_no_database_that_is_away(provider, missing, caplog):
    def lack(execute, sql, params, many, context):
        raise OperationalError(f"no such {missing}")

    outbox.enqueue(a_message())
    engine = Engine("default")

    with connection.execute_wrapper(lack), pytest.raises(OperationalError, match=missing):
        engine.run()

    assert "database trouble" not in caplog.messages
    engine.run()
    engine.stop()
    assert len(provider.accepted) == 1
