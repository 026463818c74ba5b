"""The database's clock, exact text columns, and indexes right for each database."""

from collections.abc import Sequence
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement
from django.db.models.functions import Now
from django.db.models.sql.compiler import SQLCompiler


class UtcNow(Now):
    """The moment the statement runs, in UTC, by the database's own clock."""

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        # CURRENT_TIMESTAMP follows the session's time zone, which Django never sets; the columns hold UTC.
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


class ExactCharField(models.CharField):
    """Text compared byte by byte, on MySQL too, where the default collation takes `Order-1` for `order-1`."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        column = super().db_type(connection)
        if column is not None and connection.vendor == "mysql":
            column += " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        return column


class UniqueWhereGiven(models.UniqueConstraint):
    """Values that stand but once; rows without any are left out of the index where the database can do that."""

    def __init__(self, *, fields: Sequence[str], name: str) -> None:
        super().__init__(fields=fields, name=name)

    def constraint_sql(self, model: type[models.Model] | None, schema_editor: BaseDatabaseSchemaEditor | None) -> Any:
        return self._fitting(schema_editor).constraint_sql(model, schema_editor)

    def create_sql(self, model: type[models.Model] | None, schema_editor: BaseDatabaseSchemaEditor | None) -> Any:
        return self._fitting(schema_editor).create_sql(model, schema_editor)

    def remove_sql(self, model: type[models.Model] | None, schema_editor: BaseDatabaseSchemaEditor | None) -> Any:
        return self._fitting(schema_editor).remove_sql(model, schema_editor)

    def _fitting(self, schema_editor: BaseDatabaseSchemaEditor | None) -> models.UniqueConstraint:
        given = models.Q(**{f"{name}__isnull": False for name in self.fields})
        is_partial = schema_editor is not None and schema_editor.connection.features.supports_partial_indexes
        return models.UniqueConstraint(fields=self.fields, name=self.name, condition=given if is_partial else None)


class PartialIndex(models.Index):
    """An index over the rows that fulfil a condition; where there is no such thing over all, perhaps by other columns."""

    def __init__(self, *, fields: Sequence[str], only: models.Q, otherwise: Sequence[str] = (), name: str) -> None:
        super().__init__(fields=fields, name=name)
        self.only = only
        self.otherwise = list(otherwise)

    def deconstruct(self) -> Any:
        path, args, kwargs = super().deconstruct()
        return path, args, {**kwargs, "only": self.only, "otherwise": self.otherwise}

    def create_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **kwargs: Any
    ) -> Statement:
        if schema_editor.connection.features.supports_partial_indexes:
            index = models.Index(fields=self.fields, name=self.name, condition=self.only)
        else:
            index = models.Index(fields=self.otherwise or self.fields, name=self.name)
        return index.create_sql(model, schema_editor, using=using, **kwargs)


class StateIndex(PartialIndex):
    """An index over the entries in one state: partial where the database can, else with the state first.

    Where it is partial it leaves out what has an empty text in the column `filled`.
    """

    def __init__(self, *, fields: Sequence[str], state: str, filled: str = "", name: str) -> None:
        only = models.Q(state=str(state))
        if filled:
            only &= ~models.Q(**{filled: ""})
        super().__init__(fields=fields, only=only, otherwise=["state", *fields], name=name)
        self.state = str(state)
        self.filled = filled

    def deconstruct(self) -> Any:
        path, args, kwargs = super().deconstruct()
        named = {"fields": kwargs["fields"], "name": kwargs["name"], "state": self.state}
        return path, args, named | ({"filled": self.filled} if self.filled else {})
