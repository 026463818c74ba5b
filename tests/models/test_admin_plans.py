"""Every page of the admin answers from indexes: the plans of what it really asks, over a month of mail."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry
from tests.admin_rows import empty, fill
from tests.journey.conftest import only_on
from tests.shells.admin.conftest import ENTRIES
from tests.support import mailers

pytestmark = [pytest.mark.slow, pytest.mark.django_db, only_on("sqlite", "postgresql")]

ROWS = 60_000
WAITING = 6_000
"""Of three states: with a page or two of each, PostgreSQL may as well sort them."""
LOCMEM = {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}


@pytest.fixture(scope="module", autouse=True)
def a_month(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Fill the tables once, and empty them again."""
    with django_db_blocker.unblock():
        fill(ROWS, waiting=WAITING)
        yield
        empty()


@pytest.fixture(autouse=True)
def two_mailers() -> Iterator[None]:
    """Know the mailers that the rows name."""
    with mailers({"default": LOCMEM, "bulk": LOCMEM}):
        yield


def questions_of(client: Client, url: str) -> list[tuple[str, Any]]:
    """Return what the page asks about entries, with the values apart, as a database sees them."""
    asked: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, values: Any, many: Any, context: Any) -> Any:
        if "mail_outbox_outboxentry" in sql and sql.startswith("SELECT"):
            asked.append((sql, values))
        return execute(sql, values, many, context)

    with connection.execute_wrapper(note):
        assert client.get(url).status_code == 200, url
    return asked


def plan_of(sql: str, values: Any) -> list[str]:
    prefix = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        cursor.execute(prefix + sql, values)
        return [str(row[-1]) for row in cursor.fetchall()]


def full_scans(plan: list[str]) -> list[str]:
    """Return the steps that read a whole table of ours; reading on by primary key until a page is full is none."""
    if connection.vendor == "postgresql":
        filtered = [
            step
            for step, after in zip(plan, [*plan[1:], ""], strict=True)
            if "Seq Scan on" in step and "Filter" in after
        ]
        return [step for step in filtered if "mail_outbox_" in step]
    partial = r" USING (COVERING )?INDEX mail_outbox_entry_(troubled|claim|oldest|due|lease)\b"
    return [step for step in plan if re.search(rf"SCAN (mail_outbox_\w+|U\d+)(?!\w|{partial})", step)]


def sorts(plan: list[str]) -> list[str]:
    return [step for step in plan if "TEMP B-TREE FOR ORDER BY" in step or re.search(r"->\s+Sort|^Sort", step)]


LISTS = {
    "each state": [
        f"?state={state}" for state in ("scheduled", "queued", "sending", "sent", "failed", "held", "expired")
    ],
    "each mailer": ["?using=default", "?using=bulk"],
    "each window": ["?window=hour", "?window=day", "?window=week"],
    "attention": ["?attention=person", "?attention=stuck", "?attention=error"],
    # Two conditions at once may sort the little that the better index has found.
    "state and mailer, sorted": ["?state=failed&using=bulk", "?state=sent&using=bulk"],
    "a cause, sorted": ["?state=failed&cause=permanent:550&using=default"],
    "page 7": ["?p=7", "?state=sent&p=7"],
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_reads_no_table_through_and_sorts_nothing(admin_client: Client, name: str):
    for query in LISTS[name]:
        questions = questions_of(admin_client, ENTRIES + query)

        assert len(questions) <= 3, query
        for sql, values in questions:
            plan = plan_of(sql, values)
            # Without any condition the limit ends it; a count may sort the little that the index has found.
            assert "WHERE" not in sql or not full_scans(plan), (query, sql, plan)
            assert "sorted" in name or "LIMIT 50" not in sql or not sorts(plan), (query, sql, plan)


def test_the_plain_list_reads_its_page_by_primary_key_and_counts_no_further_than_it_must(admin_client: Client):
    questions = questions_of(admin_client, ENTRIES)

    assert len(questions) <= 3
    [page] = [sql for sql, _ in questions if "LIMIT 50" in sql]
    [count] = [sql for sql, _ in questions if "LIMIT 10001" in sql]
    assert not sorts(plan_of(page, ()))
    assert "WHERE" not in page + count


@pytest.mark.parametrize(
    "term",
    ["17", "reader17@example.com", "nobody@example.com", "provider-{key}", "<abc@example.com>", "0" * 32, "order 59"],
)
def test_a_search_reads_no_table_through(admin_client: Client, term: str):
    term = term.format(key=OutboxEntry.objects.ended(State.SENT).values_list("pk", flat=True).first())
    questions = questions_of(admin_client, f"{ENTRIES}?q={term}")

    assert len(questions) <= 3
    for sql, values in questions:
        plan = plan_of(sql, values)
        if "DESC LIMIT 1)" in sql:
            # The newest key is the end of the primary key; SQLite calls a look at it a scan.
            plan = [step for step in plan if step != "SCAN U0"]
        assert not full_scans(plan), (term, sql, plan)


def test_the_page_of_an_entry_reads_no_table_through(admin_client: Client):
    entry = OutboxEntry.objects.filter(state="failed").first()
    questions = questions_of(admin_client, f"{ENTRIES}{entry.pk}/change/")

    assert len(questions) <= 3
    for sql, values in questions:
        assert not full_scans(plan_of(sql, values)), (sql, plan_of(sql, values))


def test_the_dashboard_reads_no_table_through(admin_client: Client):
    questions = questions_of(admin_client, f"{ENTRIES}dashboard/")

    assert len(questions) == 3
    for sql, values in questions:
        plan = plan_of(sql, values)
        assert not full_scans(plan), (sql, plan)


def test_acting_on_all_reads_no_table_through(admin_client: Client):
    for query in ("?state=failed", "?using=bulk", "?q=reader17@example.com"):
        for sql, values in questions_of(admin_client, f"{ENTRIES}act/resend/{query}"):
            if "WHERE" in sql:
                assert not full_scans(plan_of(sql, values)), (query, sql, plan_of(sql, values))


def test_the_panel_reads_no_table_through():
    entries = outbox.for_object(OutboxEntry(pk=17))[:21]

    assert not full_scans(plan_of(*entries.query.sql_with_params()))
