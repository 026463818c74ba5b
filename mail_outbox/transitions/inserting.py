"""Rows by INSERTs of our own, which say what the ORM would, in fewer words."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain, repeat
from typing import Any
from uuid import UUID

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.constants import OnConflict

from mail_outbox.transitions.tables import FIRST_KEY, Column, Statement, Table, place, table_of

Values = Mapping[str, Any]
"""What goes into a row, by the attributes of the model, as in `vars(instance)`."""
Compared = tuple[Column, str, list[Any], list[Any] | None]


def insert_rows(instances: Sequence[models.Model], *, on_conflict: OnConflict | None = None, database: str) -> None:
    """Write rows of one model, in the caller's transaction and in as few statements as the database takes.

    They get the keys that it returns, but where conflicts are ignored.
    """
    if not instances:
        return
    connection = connections[database]
    table = table_of(type(instances[0]), connection, on_conflict)
    keys: Sequence[Any] | None = None
    if connection.vendor == "sqlite" and len(instances) > 1:
        keys = _insert_in_turn(table, instances, connection)
    if keys is None:
        keys = _insert_at_once(table, instances, connection)
    for instance, key in zip(instances, keys, strict=True):
        _note_written(instance, key, database)


def insert_together(first: models.Model, *others: Sequence[models.Model], by: str, database: str) -> None:
    """Write one row, and those that refer to it `by` that attribute: in one statement on PostgreSQL, else in one for each table."""
    connection = connections[database]
    table = table_of(type(first), connection)
    sql, parameters = _insert_each(table, [vars(first)], connection)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            sql, parameters = _in_one(f"{sql}{table.returning}", parameters, others, by, connection)
            cursor.execute(sql, parameters)
            [(key,)] = cursor.fetchall()
        else:
            cursor.execute(sql, parameters)
            key = connection.ops.last_insert_id(cursor, table.name, table.key)
            for instances in filter(None, others):
                for instance in instances:
                    vars(instance)[by] = key
                table = table_of(type(instances[0]), connection)
                cursor.execute(*_insert_each(table, [vars(instance) for instance in instances], connection))
    _note_written(first, key, database)
    for instance in chain.from_iterable(others):
        _note_written(instance, None, database)


def _insert_at_once(table: Table, instances: Sequence[models.Model], connection: BaseDatabaseWrapper) -> Sequence[Any]:
    insert = _insert_differences if connection.vendor == "postgresql" and len(instances) > 1 else _insert_each
    returning = table.returning if connection.features.can_return_rows_from_bulk_insert else ""
    size = _batch_size(table, len(instances), connection)
    keys: list[Any] = []
    for start in range(0, len(instances), size):
        batch = instances[start : start + size]
        sql, parameters = insert(table, [vars(instance) for instance in batch], connection)
        with connection.cursor() as cursor:
            cursor.execute(sql + table.ending + returning, parameters)
            # Given out in the order of the rows; the order of what is returned is nowhere promised.
            keys += sorted(key for (key,) in cursor.fetchall()) if returning else [None] * len(batch)
    return keys


def _in_one(
    first: str,
    parameters: list[Any],
    others: Sequence[Sequence[models.Model]],
    by: str,
    connection: BaseDatabaseWrapper,
) -> Statement:
    parts = [f'"first" AS ({first})']
    for number, instances in enumerate(filter(None, others)):
        rows = [{**vars(instance), by: FIRST_KEY} for instance in instances]
        sql, more = _insert_each(table_of(type(instances[0]), connection), rows, connection)
        parts.append(f'"others{number}" AS ({sql})')
        parameters += more
    return f'WITH {", ".join(parts)} SELECT "id" FROM "first"', parameters  # noqa: S608


def _insert_in_turn(
    table: Table, instances: Sequence[models.Model], connection: BaseDatabaseWrapper
) -> Sequence[Any] | None:
    """Write the rows by one statement that SQLite reads but once; return their keys, or None where they are not alike enough."""
    compared = _compare(table, [vars(instance) for instance in instances], connection)
    if compared is None:
        return None
    places = ", ".join(place for _, place, _, _ in compared)
    columns = chain.from_iterable(
        [values] if values is not None else map(repeat, parameters) for _, _, parameters, values in compared
    )
    into = _into(table, (column for column, *_ in compared))
    with connection.cursor() as cursor:
        cursor.executemany(f"{into} VALUES ({places}){table.ending}", list(zip(*columns, strict=False)))
        if not table.key:
            return [None] * len(instances)
        # Keys ascend, and since the first row nobody else can have written any.
        cursor.execute(f"SELECT {table.key} FROM {table.name} ORDER BY {table.key} DESC LIMIT %s", [len(instances)])  # noqa: S608
        return [key for (key,) in reversed(cursor.fetchall())]


def _batch_size(table: Table, count: int, connection: BaseDatabaseWrapper) -> int:
    return count if count == 1 else connection.ops.bulk_batch_size([each.field for each in table.columns], range(count))


def _note_written(instance: models.Model, key: Any, database: str) -> None:
    if key is not None:
        instance.pk = key
    instance._state.adding = False
    instance._state.db = database


def _insert_each(table: Table, rows: Sequence[Values], connection: BaseDatabaseWrapper) -> Statement:
    columns = _needed(table, rows)
    lines, parameters = [], []
    for values in rows:
        places = []
        for column in columns:
            value = values[column.attribute]
            if type(value) is column.plain:
                places.append("%s")
                parameters.append(value)
            else:
                where, more = place(column, value, table, connection)
                places.append(where)
                parameters += more
        lines.append(", ".join(places))
    return f"{_into(table, columns)} VALUES ({'), ('.join(lines)})", parameters


def _needed(table: Table, rows: Sequence[Values]) -> Sequence[Column]:
    """Return the columns but for those that the database writes by itself."""
    needed = []
    for column in table.columns:
        if column.is_implied:
            for row in rows:
                if row[column.attribute] is not column.default:
                    break
            else:
                continue
        needed.append(column)
    return needed


def _into(table: Table, columns: Iterable[Column]) -> str:
    return f"{table.into} ({', '.join([column.name for column in columns])})"


def _insert_differences(table: Table, rows: Sequence[Values], connection: BaseDatabaseWrapper) -> Statement:
    """Say once what is the same in all rows, and the rest as one JSON text: PostgreSQL plans each value of its own apart."""
    compared = _compare(table, rows, connection)
    if compared is None:
        return _insert_each(table, rows, connection)
    different = [(column, values) for column, _, _, values in compared if values is not None]
    names = [column.field.column for column, _ in different]
    try:
        told = [dict(zip(names, row, strict=True)) for row in zip(*(values for _, values in different), strict=True)]
        text = json.dumps(told, default=_for_json, allow_nan=False)
    except (TypeError, ValueError):
        return _insert_each(table, rows, connection)
    places = [column.name if values is not None else place for column, place, _, values in compared]
    types = ", ".join(f"{column.name} {column.type}" for column, _ in different)
    source = f"ROWS FROM (jsonb_to_recordset(%s::jsonb) AS ({types})) WITH ORDINALITY ORDER BY ordinality"
    into = _into(table, (column for column, *_ in compared))
    sql = f"{into} SELECT {', '.join(places)} FROM {source}"  # noqa: S608
    return sql, [*chain.from_iterable(parameters for _, _, parameters, _ in compared), text]


def _for_json(value: Any) -> Any:
    """Return what PostgreSQL makes the value of again, out of JSON."""
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
        case timedelta():
            return f"{value.days} days {value.seconds}.{value.microseconds:06} seconds"
    # psycopg's wrapper of what goes into a JSON column, where null would become NULL.
    if getattr(value, "obj", None) is None:
        raise TypeError(type(value))
    return value.obj


def _compare(table: Table, rows: Sequence[Values], connection: BaseDatabaseWrapper) -> Sequence[Compared] | None:
    """Return what stands for each column in all rows, but for those left to the database, its parameters, and its values where they differ.

    None where all rows are the same, or an expression stands in some.
    """
    compared: list[Compared] = []
    for column in table.columns:
        values = [row[column.attribute] for row in rows]
        # The very same: what merely equals it, as 1 and True do, may be something else in JSON.
        is_one = len(set(map(id, values))) == 1
        if is_one and column.is_implied and values[0] is column.default:
            continue
        if is_one:
            compared.append((column, *place(column, values[0], table, connection), None))
        elif column.plain is not None and set(map(type, values)) == {column.plain}:
            compared.append((column, "%s", [], values))
        elif any(hasattr(value, "as_sql") for value in values):
            return None
        else:
            prepare = column.field.get_db_prep_save
            compared.append((column, "%s", [], [prepare(value, connection) for value in values]))
    return compared if any(values is not None for *_, values in compared) else None
