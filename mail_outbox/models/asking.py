"""Many yes-or-no questions to the database in one statement."""

from collections.abc import Mapping
from typing import Any, TypeVar

from django.db import connections, models

Name = TypeVar("Name")


def ask_all(questions: Mapping[Name, models.QuerySet[Any]], *, database: str) -> set[Name]:
    """Return the names of the querysets in which there is anything."""
    asked = [queryset.query.exists().get_compiler(using=database).as_sql() for queryset in questions.values()]
    if not asked:
        return set()
    with connections[database].cursor() as cursor:
        cursor.execute(
            "SELECT " + ", ".join(f"EXISTS({sql})" for sql, _ in asked),
            [parameter for _, parameters in asked for parameter in parameters],
        )
        return {name for name, answer in zip(questions, cursor.fetchone(), strict=True) if answer}
