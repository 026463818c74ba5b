"""A scrape answers from indexes: the plans of what it really asks, over a month of mail."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from mail_outbox import outbox, transitions
from mail_outbox.models import CountMark
from tests.admin_rows import empty, fill
from tests.journey.conftest import only_on
from tests.models.test_admin_plans import full_scans, plan_of, sorts
from tests.support import scripted

pytestmark = [pytest.mark.slow, pytest.mark.django_db, only_on("sqlite", "postgresql")]

ROWS = 60_000


@pytest.fixture(scope="module", autouse=True)
def a_month(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Fill the tables once, and empty them again."""
    with django_db_blocker.unblock():
        fill(ROWS)
        with connection.cursor() as cursor:
            # What autovacuum does by and by: an index alone answers only for pages that it has seen.
            cursor.execute("VACUUM mail_outbox_outboxentry" if connection.vendor == "postgresql" else "SELECT 1")
        yield
        empty()


def questions_of(ask: Any, table: str) -> list[tuple[str, Any]]:
    """Return what is asked about the table, with the values apart, as a database sees them."""
    asked: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, values: Any, many: Any, context: Any) -> Any:
        if f"mail_outbox_{table}" in sql and sql.lstrip("(").startswith("SELECT"):
            asked.append((sql, values))
        return execute(sql, values, many, context)

    with scripted("default", "bulk"), connection.execute_wrapper(note):
        ask()
    return asked


def test_a_scrape_reads_no_table_of_entries_through_and_sorts_nothing():
    questions = questions_of(outbox.measure, "outboxentry")

    assert len(questions) == 4
    for sql, values in questions:
        plan = plan_of(sql, values)
        assert not full_scans(plan), (sql, plan)
        assert not [step for step in sorts(plan) if "TEMP" in step], (sql, plan)


def test_a_scrape_never_asks_the_attempts():
    assert questions_of(outbox.measure, 'attempt"') == []
    assert questions_of(outbox.measure, "recipient") == []


def test_counting_reads_only_the_attempts_that_are_not_counted_yet():
    CountMark.objects.update_or_create(pk=CountMark.ONLY, defaults={"counted_to": 100})

    questions = questions_of(lambda: transitions.count_attempts(database="default"), "attempt")

    assert questions
    for sql, values in questions:
        assert not [step for step in full_scans(plan_of(sql, values)) if "attempt" in step], sql
