"""The plans of the hot queries, with 100,000 sent, 10,000 failed and 100,000 not-yet-due rows in the table."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import QuerySet
from django.test import override_settings

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry
from tests.support import a_message

ROWS = 100_000
FAILED = 10_000
DAY = timedelta(days=1)
NEW_UUID = {"postgresql": "gen_random_uuid()", "mysql": "uuid()", "sqlite": "lower(hex(randomblob(16)))"}


@pytest.fixture(scope="module")
def full_table(django_db_setup, django_db_blocker):
    """Fill the table once for all plans, and empty it again."""
    with django_db_blocker.unblock(), override_settings(MAIL_OUTBOX={**settings.MAIL_OUTBOX, "WAKE": False}):
        finished = outbox.enqueue(a_message())
        later = outbox.enqueue(a_message(), send_at=timedelta(days=1))
        failed = outbox.enqueue(a_message())
        for entry, state in ((finished, State.SENT), (failed, State.FAILED)):
            OutboxEntry.objects.filter(pk=entry.pk).update(state=state, finished_at=datetime.now(UTC))
        for state, rows in ((State.SENT, ROWS), (State.FAILED, FAILED), (later.state, ROWS)):
            multiply(state, rows)
        outbox.enqueue_many(a_message() for _ in range(500))
        # Among what waits for the mailer, few may go by another one.
        outbox.enqueue_many((a_message() for _ in range(10)), priority=outbox.LOW)
        OutboxEntry.objects.filter(rank=-outbox.LOW).update(route="main")
        with connection.cursor() as cursor:
            cursor.execute(
                {"mysql": "ANALYZE TABLE mail_outbox_outboxentry"}.get(
                    connection.vendor, "ANALYZE mail_outbox_outboxentry"
                )
            )
            cursor.fetchall() if connection.vendor == "mysql" else None
        yield
        # Django's own delete would read all of it.
        OutboxEntry.objects.filter(content__isnull=True)._raw_delete("default")
        OutboxEntry.objects.all().delete()


def multiply(state: str, rows: int) -> None:
    """Double the one row in that state until there are so many."""
    table = OutboxEntry._meta.db_table
    kept = [field.column for field in OutboxEntry._meta.concrete_fields if field.column not in {"id", "uuid"}]
    columns = ", ".join(connection.ops.quote_name(column) for column in kept)
    count = 1
    with connection.cursor() as cursor:
        while count < rows:
            step = min(count, rows - count)
            cursor.execute(
                f"INSERT INTO {table} (uuid, {columns}) SELECT {NEW_UUID[connection.vendor]}, {columns} "  # noqa: S608
                f"FROM {table} WHERE state = %s LIMIT {step}",
                [state],
            )
            count += step


def plan_of(queryset: QuerySet[OutboxEntry]) -> str:
    return queryset.explain(format="JSON") if connection.vendor == "mysql" else queryset.explain()


def assert_is_index_range_scan_without_sort(plan: str) -> None:
    match connection.vendor:
        case "postgresql":
            assert re.search(r"Index (Only )?Scan using mail_outbox_entry_\w+", plan), plan
            assert "Sort" not in plan, plan
            assert "Seq Scan" not in plan, plan
            assert "Filter" not in plan, plan
        case "sqlite":
            assert re.search(r"SEARCH .* USING (COVERING )?INDEX mail_outbox_entry_\w+", plan), plan
            assert "TEMP B-TREE" not in plan, plan
            assert "SCAN" not in plan, plan
        case "mysql":
            assert "filesort" not in plan, plan
            assert '"temporary_table"' not in plan, plan
            table = find_table(json.loads(json.loads(plan)))
            assert table["access_type"] in {"range", "ref"}, plan
            assert table["key"].startswith("mail_outbox_entry_"), plan


def find_table(plan: object) -> dict[str, str]:
    """Return the one table of a MariaDB plan, however deep it lies."""
    if isinstance(plan, dict):
        if "access_type" in plan:
            return plan
        plan = list(plan.values())
    if isinstance(plan, list):
        for part in plan:
            if found := find_table(part):
                return found
    return {}


QUERIES = {
    "the claim": lambda entries: entries.queued("default").order_by("rank", "due_at", "pk")[:8],
    "the claim of the oldest": lambda entries: entries.queued("default").order_by("due_at", "pk")[:1],
    "a look whether anything is queued": lambda entries: entries.queued("default").values("pk")[:1],
    "reroute": lambda entries: entries.to_reroute("main", "default").order_by("rank", "due_at", "pk")[:1000],
    "a look whether anything may be rerouted": lambda entries: entries.to_reroute("main", "default").values("pk")[:1],
    "promote": lambda entries: entries.due_to_promote().order_by("due_at", "pk")[:1000],
    "expire what is queued": lambda entries: entries.due_to_expire(State.QUEUED).order_by("expires_at", "pk")[:1000],
    "expire what is scheduled": lambda entries: entries.due_to_expire(State.SCHEDULED).order_by("expires_at", "pk")[
        :1000
    ],
    "rescue": lambda entries: entries.stuck().order_by("lease_expires_at", "pk")[:100],
    "prune entries": lambda entries: entries.finished_for(DAY, state=State.SENT).order_by("finished_at", "pk")[:500],
    "prune what failed": lambda entries: entries.finished_for(DAY, state=State.FAILED).order_by("finished_at", "pk")[
        :500
    ],
    "prune contents": lambda entries: entries.sent_for(DAY).order_by("finished_at", "pk")[:500],
}


@pytest.mark.slow
@pytest.mark.usefixtures("full_table")
@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.django_db
def test_a_hot_query_is_an_index_range_scan_without_a_sort(name):
    entries = OutboxEntry.objects.values_list("pk")

    assert OutboxEntry.objects.count() == 2 * ROWS + FAILED + 510
    assert_is_index_range_scan_without_sort(plan_of(QUERIES[name](entries)))
