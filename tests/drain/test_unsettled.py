"""A result that nobody can decide on or write down holds up no other: what is out is written, whatever becomes of the rest."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import DataError, connection

from mail_outbox import outbox, signals
from mail_outbox.core.outcomes import Kind, Outcome, Permanent, Transient
from mail_outbox.core.states import State
from mail_outbox.drain import Engine
from mail_outbox.models import Attempt, MailerState, OutboxEntry, UtcNow
from tests.fakes import BAD_LOGIN, TRY_LATER, wait_for
from tests.support import a_message

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("default")
    yield engine
    engine.stop()


def fate(entry: OutboxEntry) -> tuple[str, str]:
    return OutboxEntry.objects.filter(pk=entry.pk).values_list("state", "state_reason").get()


def classify_as(settings: Any, outcome: Outcome) -> None:
    """Let the project's own classifier say what every error means."""
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "CLASSIFIERS": [lambda error, **_: outcome if error else None]}


def deliver_with_nine_others(provider: Any, engine: Engine) -> OutboxEntry:
    """Deliver ten mails, the first of which is refused, and return that one's entry."""
    provider.will(TRY_LATER)
    first, *_ = outbox.enqueue_many(a_message(str(number)) for number in range(10))
    engine.run()
    engine.run()

    assert len(provider.accepted) == 9
    others = OutboxEntry.objects.exclude(pk=first.pk)
    assert set(others.values_list("state", "attempts")) == {(State.SENT, 1)}
    assert Attempt.objects.exclude(entry=first).count() == 9
    return first


def test_a_pattern_that_only_the_project_knows_is_no_pattern(provider, settings, engine):
    classify_as(settings, Permanent(code="quota", pattern="quota:full"))

    entry = deliver_with_nine_others(provider, engine)

    assert fate(entry) == (State.FAILED, "quota")


@pytest.mark.parametrize("wait", [timedelta.max, timedelta(days=3_000_000)], ids=["for ever", "8,000 years"])
def test_a_wait_that_no_clock_has_is_a_year(provider, settings, engine, wait):
    classify_as(settings, Transient(code="later", not_before=wait))

    entry = deliver_with_nine_others(provider, engine)

    assert fate(entry) == (State.SCHEDULED, "")
    entry.refresh_from_db()
    assert entry.due_at - entry.first_due_at < timedelta(days=366)


def test_a_backoff_never_grows_beyond_its_longest(provider, settings, engine):
    backoff = {"first": timedelta(hours=1), "longest": timedelta(hours=4)}
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "BACKOFF": backoff, "MAX_ATTEMPTS": 1000}
    provider.will(TRY_LATER)
    entry = outbox.enqueue(a_message())
    OutboxEntry.objects.update(attempts=60)

    engine.run()

    assert fate(entry) == (State.SCHEDULED, "")


def test_what_cannot_be_decided_on_is_held_and_the_others_are_written(provider, settings, engine, caplog):
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "MAX_ATTEMPTS": "30"}

    entry = deliver_with_nine_others(provider, engine)

    assert fate(entry) == (State.HELD, "no decision could be made (TypeError)")
    assert list(entry.attempt_set.values_list("kind", flat=True)) == [Kind.TRANSIENT]
    [record] = [record for record in caplog.records if record.message == "result cannot be decided on"]
    assert (record.entry, record.error) == (entry.pk, "TypeError")


def test_streaks_of_another_version_are_left_alone(provider, settings, engine):
    MailerState.objects.create(alias="default", streaks=[["newer:kind", ["1"]]], streaks_since=UtcNow())
    classify_as(settings, Permanent(code="550", pattern="sender:a"))

    entry = deliver_with_nine_others(provider, engine)

    assert fate(entry) == (State.FAILED, "550")


class Refusing:
    """A database that refuses statements with this among their values, as one with a trigger may."""

    def __init__(self, value: object, *, only: str = "") -> None:
        self.value, self.only = value, only
        self.error = DataError("jane@example.com is refused")

    def __call__(self, execute: Any, sql: str, params: Any, *rest: Any) -> Any:
        if sql.startswith("UPDATE") and self.only in sql and self.value in (params or ()):
            raise self.error
        return execute(sql, params, *rest)


def test_what_cannot_be_written_is_held_and_the_others_are_written(provider, settings, engine, caplog):
    classify_as(settings, Permanent(code="odd"))

    with connection.execute_wrapper(Refusing("odd")):
        entry = deliver_with_nine_others(provider, engine)

    assert fate(entry) == (State.HELD, "permanent, but that cannot be written")
    records = [record for record in caplog.records if record.message == "result cannot be written"]
    assert {(record.entry, record.error) for record in records} == {(entry.pk, "DataError")}
    assert not any("jane" in str(vars(record)) for record in records)


def test_facts_are_written_before_what_they_say_of_the_mailer(providers, engine):
    is_noted = threading.Event()
    providers["default"].will(BAD_LOGIN)
    providers["bulk"].will(wait_for(is_noted))
    MailerState.objects.create(alias="default")
    outbox.enqueue(a_message())
    entry = outbox.enqueue(a_message(), using="bulk")
    signals.entry_settled.connect(listen := lambda **_: is_noted.set(), weak=False)
    try:
        with (
            connection.execute_wrapper(Refusing("default", only="mail_outbox_mailerstate")),
            pytest.raises(DataError, match="refused"),
        ):
            engine.run()
    finally:
        signals.entry_settled.disconnect(listen)

    assert fate(entry) == (State.SENT, "")
