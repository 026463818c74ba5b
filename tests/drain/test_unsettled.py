"""A result that nobody can decide on or write down holds up no other: what is out is written, whatever becomes of the rest."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from mail_outbox import outbox
from mail_outbox.core.outcomes import Outcome, Permanent, Transient
from mail_outbox.core.states import State
from mail_outbox.drain import Engine
from mail_outbox.models import Attempt, OutboxEntry
from tests.fakes import TRY_LATER
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
