"""Rows in batches and in one order, locked so that workers pass each other by, or wait for each other."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import InterfaceError, InternalError, OperationalError, connections, transaction
from django.db.models import Case, IntegerField, Q, QuerySet, When
from django.db.models.lookups import Exact

from mail_outbox.models import Attachment, MailerState, OutboxEntry
from mail_outbox.models.entry import EntryQuerySet

DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)
"""What Django raises when the database is away, locked, deadlocked, or has become a read-only replica."""
UNMIGRATED = ("no such table", "no such column")
"""How the errors begin of a SQLite that is there: on other databases they are none of these."""
BATCH = 500
"""How many rows one statement writes at the most."""
ANY = Q()
BUSY = 1.0
"""Seconds for which others are let finish with an attachment before one waits for it in the database."""


def is_unmigrated(error: Exception) -> bool:
    """Tell whether the error, one of DATABASE_AWAY, says that a table or a column is missing: waiting will not help."""
    return str(error).startswith(UNMIGRATED)


def in_batches(keys: Iterable[int]) -> list[list[int]]:
    """Split primary keys into lists of at most BATCH, in ascending order, so that locks are taken in one order."""
    ordered = sorted(set(keys))
    return [ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH)]


def among(keys: Sequence[int], condition: Q, *, database: str) -> EntryQuerySet:
    """Return those of the entries for which the condition holds, to be locked in the order of their keys.

    InnoDB locks what it comes by: by an index of states that is whatever has the state, in another order than others have it.
    So the condition is put in words that no index answers.
    """
    entries = OutboxEntry.objects.using(database).filter(pk__in=keys)
    if not condition:
        return entries
    return entries.filter(Exact(Case(When(condition, then=1), default=0, output_field=IntegerField()), 1))


def change(keys: Sequence[int], condition: Q, *, database: str, **changes: Any) -> int:
    """Write on those of the entries for which the condition holds, one after the other, and return how many."""
    with exactly(database):
        return among(keys, condition, database=database).update(**changes)


@contextmanager
def locked(keys: Sequence[int], condition: Q = ANY, *, database: str) -> Iterator[list[int]]:
    """Be in a transaction in which nobody else changes those of the entries for which the condition holds; yield their keys.

    Who changes several locks them first, in the order of their keys: two who come to them in two orders deadlock.
    """
    features = connections[database].features
    with transaction.atomic(using=database):
        if len(keys) > 1 and features.has_select_for_update:
            entries = among(keys, condition, database=database).order_by("pk")
            rows = entries.select_for_update(no_key=features.has_select_for_no_key_update)
            keys = list(rows.values_list("pk", flat=True))
        yield list(keys)


def lock_free_rows(entries: EntryQuerySet, limit: int, *columns: str, to_delete: bool = False) -> list[Any]:
    """Lock up to `limit` of the entries that nobody else holds, and return their columns.

    Nobody can begin to refer to those that are `to_delete`.

    Evaluated here and now: as a subquery of an UPDATE the database may run it twice and take more than the limit.
    SQLite has no row locks; there the transaction itself (IMMEDIATE) keeps others out, and every UPDATE that follows
    checks the state once more.
    """
    features = connections[entries.db].features
    locked = entries.select_for_update(
        skip_locked=features.has_select_for_update_skip_locked,
        # Does not fight the foreign keys of the attempts that other workers insert.
        no_key=features.has_select_for_no_key_update and not to_delete,
    )
    return list(locked.values_list(*columns)[:limit])


def share_entry(key: int, *, database: str) -> bool:
    """Keep prune off the entry until the transaction ends, and tell whether it is there."""
    connection, meta = connections[database], OutboxEntry._meta
    if connection.vendor == "sqlite":
        return OutboxEntry.objects.using(database).filter(pk=key).exists()  # the writer is alone
    lock = "FOR KEY SHARE" if connection.vendor == "postgresql" else "LOCK IN SHARE MODE"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {meta.db_table} WHERE {meta.pk.column} = %s {lock}", [key])  # noqa: S608
        return cursor.fetchone() is not None


def share_attachments(names: Sequence[str], *, are_there: bool, database: str) -> set[str]:
    """Keep prune off the attachments of these digests until the transaction ends, and return those that there are.

    Whoever else shares them does not wait, which is why Django's own row locks will not do. `are_there` says that
    all of them have just been seen.
    """
    attachments = Attachment.objects.using(database).filter(digest__in=names).values_list("digest", flat=True)
    match connections[database].vendor:
        case "sqlite":
            return set(attachments)  # the writer is alone
        case "postgresql":
            return _share(names, "FOR KEY SHARE", database)
    return _share(names, "LOCK IN SHARE MODE", database) if are_there else _share_on_innodb(attachments, database)


def _share_on_innodb(attachments: QuerySet[Attachment, str], database: str) -> set[str]:
    """Share what there is, and wait for nobody who deletes: two who have done so keep locks on what is left, and deadlock.

    A locking read of what is not there would lock the gap, and two that then insert into it deadlock, too.
    """
    connection: Any = connections[database]
    lock = "LOCK IN SHARE MODE" if connection.mysql_is_mariadb else "FOR SHARE"
    until, has_waited = time.monotonic() + BUSY, False
    while connection.features.has_select_for_update_skip_locked and time.monotonic() < until:
        there = list(attachments.all())
        held = _share(there, f"{lock} SKIP LOCKED", database)
        if not has_waited and held.issuperset(there):
            return held
        # Once more than it takes: that rows have gone is seen before their locks have.
        has_waited = not held.issuperset(there)
        time.sleep(BUSY / 200)
    return _share(list(attachments.all()), "LOCK IN SHARE MODE", database)


def _share(names: Sequence[str], lock: str, database: str) -> set[str]:
    if not names:
        return set()
    with connections[database].cursor() as cursor:
        cursor.execute(
            f"SELECT digest FROM {Attachment._meta.db_table} WHERE digest IN ({', '.join(['%s'] * len(names))})"  # noqa: S608
            f" ORDER BY digest {lock}",
            list(names),
        )
        return {digest for (digest,) in cursor.fetchall()}


DELETE = re.compile(r"(DELETE FROM \S+ WHERE \S+) IN \(%s(?:, %s)+\)")
UPDATE = re.compile(r"(UPDATE (\S+)) (SET .* \2\.`id` IN \(.*)")


FEW = 10
"""Rows that are deleted one by one without a look at what the database would do with all of them."""


@contextmanager
def exactly(database: str) -> Iterator[None]:
    """Let Django write on rows that it finds by their keys, and delete them with all that refers to them, and wait for no others.

    InnoDB reads a small table from end to end for a list, and waits there for whoever waits for us.
    """
    if connections[database].vendor != "mysql":
        yield
        return

    def one_by_one(execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
        cursor = context["cursor"]
        if (
            not many
            and (found := DELETE.fullmatch(sql))
            and (len(parameters) <= FEW or _reads_all(cursor, sql, parameters))
        ):
            return cursor.executemany(f"{found[1]} = %s", [(each,) for each in parameters])
        return execute(UPDATE.sub(r"\1 FORCE INDEX (PRIMARY) \3", sql), parameters, many, context)

    with connections[database].execute_wrapper(one_by_one):
        yield


def _reads_all(cursor: Any, sql: str, parameters: Any) -> bool:
    cursor.execute(f"EXPLAIN {sql}", parameters)
    plan = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
    return plan["type"] not in ("range", "eq_ref", "ref", "const")


def delete_exactly(rows: QuerySet[Any]) -> None:
    """Delete rows that nothing refers to and nobody else can change, and wait for nobody who holds others."""
    connection = connections[rows.db]
    if connection.vendor != "mysql":
        rows.only("pk").delete()
        return
    # InnoDB reads a small table from end to end for a list, and waits there for whoever waits for us.
    meta, quote = rows.model._meta, connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.executemany(
            f"DELETE FROM {quote(meta.db_table)} WHERE {quote(meta.pk.column)} = %s",  # noqa: S608
            [(key,) for key in rows.order_by("pk").values_list("pk", flat=True)],
        )


@contextmanager
def locked_mailer(alias: str, *, database: str) -> Iterator[MailerState]:
    """Hold the mailer's one row, written where it is missing, in a transaction."""
    states = MailerState.objects.using(database)
    with transaction.atomic(using=database):
        state = states.select_for_update().filter(alias=alias).first()
        if state is not None:
            yield state
            return
    # Not in the same transaction: InnoDB deadlocks where two that have found the row missing write and then lock it.
    states.bulk_create([MailerState(alias=alias)], ignore_conflicts=True)
    with transaction.atomic(using=database):
        yield states.select_for_update().get(alias=alias)
