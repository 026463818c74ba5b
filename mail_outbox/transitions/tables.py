"""What an INSERT into a table always has in it: read from the model and the database once, not for every row."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.constants import OnConflict
from django.db.models.expressions import RawSQL
from django.db.models.sql import InsertQuery

from mail_outbox.models import UtcNow
from mail_outbox.models.columns import ExactCharField
from mail_outbox.models.making import is_made_anew

Statement = tuple[str, list[Any]]

NOW = UtcNow()
"""The database's clock. It is this very object that is compiled once and for all."""
LITERALS: Mapping[tuple[type, object], str] = {
    (type(None), None): "NULL",
    (str, ""): "''",
    (int, 0): "0",
    (bool, False): "FALSE",
    (bool, True): "TRUE",
}
"""The defaults that every database writes alike."""
FIRST_KEY = RawSQL('SELECT "id" FROM "first"', ())
"""The key of the row that the same statement writes first."""


class Column(NamedTuple):
    """One column: the field that prepares its values, its type, and what usually stands for its default, which most rows have.

    Values of the class `plain` the field would give back as they are. Where its default `is_implied`, the database writes it
    without being told, which is faster than to read it.
    """

    attribute: str
    default: object
    usual: str
    usual_parameters: list[Any]
    is_implied: bool
    plain: type | None
    field: Any
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Table:
    """What is the same in every INSERT into one table."""

    model: type[models.Model]
    columns: Sequence[Column]
    name: str
    into: str
    key: str
    returning: str
    ending: str
    compiled: Mapping[int, Statement]


_tables: dict[tuple[type[models.Model], str, OnConflict | None], Table] = {}


def table_of(
    model: type[models.Model], connection: BaseDatabaseWrapper, on_conflict: OnConflict | None = None
) -> Table:
    """Return what is the same in every INSERT of the model's rows into that kind of database.

    Where conflicts are ignored nobody can tell the keys of the rows.
    """
    known = _tables.get((model, connection.vendor, on_conflict))
    if known is None:
        known = _tables[model, connection.vendor, on_conflict] = _read_table(model, connection, on_conflict)
    return known


def _read_table(model: type[models.Model], connection: BaseDatabaseWrapper, on_conflict: OnConflict | None) -> Table:
    quote, meta = connection.ops.quote_name, model._meta
    columns = [
        _read_column(field, connection) for field in meta.concrete_fields if not isinstance(field, models.AutoField)
    ]
    name = quote(meta.db_table)
    ending = connection.ops.on_conflict_suffix_sql([], on_conflict, [], [])
    key = quote(str(meta.pk.column)) if isinstance(meta.pk, models.AutoField) and on_conflict is None else ""
    return Table(
        model=model,
        columns=columns,
        name=name,
        into=f"{connection.ops.insert_statement(on_conflict=on_conflict)} {name}",
        key=key,
        returning=key and f" RETURNING {key}",
        ending=f" {ending}" if ending else "",
        compiled={id(each): _compile(each, model, connection) for each in (NOW, FIRST_KEY)},
    )


def _read_column(field: Any, connection: BaseDatabaseWrapper) -> Column:
    # What is made anew for each row is no other row's: nothing is this object.
    default = object() if is_made_anew(field) else field.get_default()
    usual, parameters = _usual(None if is_made_anew(field) else field.get_db_prep_save(default, connection))
    return Column(
        attribute=field.attname,
        default=default,
        usual=usual,
        usual_parameters=parameters,
        is_implied=_is_implied(field, default),
        plain=_plain(field, connection),
        field=field,
        name=connection.ops.quote_name(field.column),
        # Without its length: a cast cuts off what is too long, where an INSERT raises.
        type=field.db_type(connection).split("(")[0],
    )


def _is_implied(field: Any, default: object) -> bool:
    if field.db_default is models.NOT_PROVIDED:
        return default is None
    return (type(field.db_default), field.db_default) == (type(default), default)


def _plain(field: Any, connection: BaseDatabaseWrapper) -> type | None:
    if type(field) in {models.CharField, ExactCharField}:
        return str
    # psycopg wants to be told how large an integer may be.
    is_integer = isinstance(field.target_field if field.is_relation else field, models.IntegerField)
    return int if is_integer and connection.vendor != "postgresql" else None


def _usual(prepared: Any) -> Statement:
    # Not by equality alone: False equals 0.
    literal = LITERALS.get((type(prepared), prepared)) if isinstance(prepared, Hashable) else None
    return ("%s", [prepared]) if literal is None else (literal, [])


def place(column: Column, value: Any, table: Table, connection: BaseDatabaseWrapper) -> Statement:
    """Return what stands for the value in the statement, and its parameters."""
    if value is column.default:
        return column.usual, column.usual_parameters
    if type(value) is column.plain:
        return "%s", [value]
    if hasattr(value, "as_sql"):
        return table.compiled.get(id(value)) or _compile(value, table.model, connection)
    return "%s", [column.field.get_db_prep_save(value, connection)]


def _compile(value: Any, model: type[models.Model], connection: BaseDatabaseWrapper) -> Statement:
    query = InsertQuery(model)
    compiler = query.get_compiler(connection=connection)
    sql, parameters = compiler.compile(value.resolve_expression(query, allow_joins=False, for_save=True))
    return sql, list(parameters)
