"""Several questions to the table of entries in one statement, each answered from its own index."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import connections
from django.db.models import QuerySet
from django.db.models.query import RawQuerySet

from mail_outbox.models import OutboxEntry


def count_each(questions: Sequence[tuple[QuerySet[OutboxEntry], int]]) -> list[int]:
    """Count the entries of each question, no further than one more than it asks for, and return the counts in order.

    The querysets should be in the order of the index meant for them: without it a planner may start reading at the wrong
    end of the table.
    """
    database = questions[0][0].db
    parts = [_sql(queryset.values_list("pk")[: most + 1], database) for queryset, most in questions]
    columns = [f"(SELECT COUNT(*) FROM ({sql}) part_{number})" for number, (sql, _) in enumerate(parts)]  # noqa: S608
    with connections[database].cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)}", [value for _, values in parts for value in values])
        return [int(count) for count in cursor.fetchone()]


def count_by_mailer(questions: Sequence[QuerySet[OutboxEntry]], *, most: int) -> list[dict[str, int]]:
    """Count the entries of each question by mailer, those after the first `most` left out, and return the counts in order.

    What `count_each` says of order holds here too.
    """
    database = questions[0].db
    parts = [_sql(queryset.values_list("using")[:most], database) for queryset in questions]
    using = connections[database].ops.quote_name("using")
    selects = [
        f"SELECT {number}, {using}, COUNT(*) FROM ({sql}) part_{number} GROUP BY {using}"  # noqa: S608
        for number, (sql, _) in enumerate(parts)
    ]
    counts: list[dict[str, int]] = [{} for _ in questions]
    with connections[database].cursor() as cursor:
        cursor.execute(" UNION ALL ".join(selects), [value for _, values in parts for value in values])
        for number, alias, count in cursor.fetchall():
            counts[number][alias] = int(count)
    return counts


def read_each(querysets: Sequence[QuerySet[OutboxEntry]]) -> "RawQuerySet[OutboxEntry]":
    """Return the rows of all of them, which must select the same columns; not in any order."""
    database = querysets[0].db
    parts = [_sql(queryset, database) for queryset in querysets]
    # A derived table each, because SQLite takes no LIMIT in a part of a union.
    selects = [f"SELECT * FROM ({sql}) part_{number}" for number, (sql, _) in enumerate(parts)]  # noqa: S608
    values = [value for _, given in parts for value in given]
    return OutboxEntry.objects.using(database).raw(" UNION ALL ".join(selects), values)


def as_moment(value: Any) -> datetime:
    """Return what a database gave for a moment that no column converts: SQLite a text, MySQL one without a time zone."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _sql(queryset: QuerySet[Any], database: str) -> tuple[str, Sequence[Any]]:
    sql, values = queryset.query.get_compiler(database).as_sql()
    return sql, values
