"""The day in numbers."""

from datetime import timedelta

import pytest

from mail_outbox import outbox
from mail_outbox.models import OutboxEntry
from mail_outbox.outbox import overview as room
from mail_outbox.outbox.overview import overview
from tests.fakes import REFUSED, TRY_LATER
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

SOON = timedelta(hours=1)


def test_an_empty_outbox_has_an_empty_day():
    day = overview()

    assert set(day.states.values()) == {0}
    assert (len(day.hours), sum(hour.sent + hour.failed for hour in day.hours)) == (24, 0)
    assert (day.latency, day.causes) == (None, ())


def test_states_hours_mailers_and_causes_are_counted(providers):
    providers["bulk"].will(REFUSED, REFUSED, TRY_LATER)
    for using in ("default", "bulk", "bulk", "bulk"):
        outbox.enqueue(a_message(), using=using)
    outbox.drain()
    outbox.enqueue(a_message(), using="bulk")

    day = overview()

    assert (day.states["sent"], day.states["failed"], day.states["scheduled"], day.states["queued"]) == (1, 2, 1, 1)
    assert (day.hours[-1].sent, day.hours[-1].failed) == (1, 2) or (day.hours[-2].sent, day.hours[-2].failed) == (1, 2)
    assert {load.alias: (load.queued, load.sent, load.failed) for load in day.mailers} == {
        "bulk": (1, 0, 2),
        "default": (0, 1, 0),
    }
    [cause] = day.causes
    assert (cause.using, cause.kind, cause.code, cause.count) == ("bulk", "permanent", "550", 2)


def test_latency_counts_from_when_a_mail_was_due(provider):
    entries = outbox.enqueue_many(a_message() for _ in range(20))
    outbox.drain()
    for number, entry in enumerate(entries):
        age(entry, first_due_at=-number * timedelta(seconds=10))

    latency = overview().latency

    assert latency.count == 20
    assert timedelta(seconds=95) < latency.p50 < timedelta(seconds=130)
    assert timedelta(seconds=185) < latency.p99


def test_what_ended_before_yesterday_is_no_part_of_the_day(provider):
    age(outbox.enqueue(a_message()), due_at=timedelta(0))
    outbox.drain()
    OutboxEntry.objects.update(finished_at=OutboxEntry.objects.get().finished_at - timedelta(days=2))

    day = overview()

    assert day.states["sent"] == 1
    assert (sum(hour.sent for hour in day.hours), day.latency) == (0, None)


def test_counts_end_at_many(provider, monkeypatch):
    monkeypatch.setattr(room, "MANY", 5)
    outbox.enqueue_many(a_message() for _ in range(9))

    assert overview().states["queued"] == 6


def test_it_looks_at_the_entries_three_times(provider, django_assert_max_num_queries):
    with django_assert_max_num_queries(10) as queries:
        overview()

    assert sum("mail_outbox_outboxentry" in query["sql"] for query in queries.captured_queries) == 3
