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


class StateIndex(models.Index):
    """An index over the entries in one state: partial where the database can, else with the state first."""

    def __init__(self, *, fields: Sequence[str], state: str, name: str) -> None:
        super().__init__(fields=fields, name=name)
        self.state = str(state)

    def deconstruct(self) -> Any:
        path, args, kwargs = super().deconstruct()
        return path, args, {**kwargs, "state": self.state}

    def create_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **kwargs: Any
    ) -> Statement:
        if schema_editor.connection.features.supports_partial_indexes:
            index = models.Index(fields=self.fields, name=self.name, condition=models.Q(state=self.state))
        else:
            index = models.Index(fields=["state", *self.fields], name=self.name)
        return index.create_sql(model, schema_editor, using=using, **kwargs)
