"""Our own INSERTs write what the ORM would write."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import DataError, IntegrityError, connection, models, transaction
from django.db.models.constants import OnConflict
from django.test.utils import CaptureQueriesContext

from mail_outbox.core.states import State
from mail_outbox.models import Attempt, AttemptCount, EntryContent, OutboxEntry, Recipient, UtcNow
from mail_outbox.transitions.inserting import insert_rows, insert_together
from mail_outbox.transitions.tables import NOW

pytestmark = pytest.mark.django_db

MOMENT = datetime(2026, 11, 21, 12, 30, 15, 123456, tzinfo=UTC)
only_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="a statement of PostgreSQL's")


def an_entry(**values: Any) -> OutboxEntry:
    usual = {"using": "default", "state": State.QUEUED, "on_ambiguous": "retry", "message_id": "<1@x.example>"}
    moments = dict.fromkeys(("due_at", "first_due_at", "date", "created_at"), MOMENT)
    return OutboxEntry(**{**usual, **moments, "uuid": uuid4(), **values})


def a_full_entry(**values: Any) -> OutboxEntry:
    """Return an entry that has no default left."""
    kinds: dict[type[models.Field[Any, Any]], Any] = {
        models.CharField: "a' %s \\ \n ü \U0001f600",
        models.JSONField: ["order's %s", "ü"],
        models.BooleanField: True,
        models.DateTimeField: MOMENT,
        models.UUIDField: UUID(int=7),
    }
    entry = OutboxEntry()
    for field in OutboxEntry._meta.concrete_fields:
        if not field.primary_key and not field.is_relation:
            value = next((value for kind, value in kinds.items() if isinstance(field, kind)), 17)
            setattr(entry, field.attname, value[: field.max_length] if isinstance(value, str) else value)
    entry.has_content = False
    for name, value in {"uuid": uuid4(), "idempotency_key": uuid4().hex, **values}.items():
        setattr(entry, name, value)
    return entry


def stored(entry: OutboxEntry) -> dict[str, Any]:
    """Return the row as it lies in the database, but for its keys."""
    row = OutboxEntry.objects.filter(uuid=entry.uuid).values().get()
    return {name: value for name, value in row.items() if name not in {"id", "uuid", "idempotency_key"}}


def written_by_the_orm(make: Any, **values: Any) -> dict[str, Any]:
    entry = make(**values)
    OutboxEntry.objects.bulk_create([entry])
    return stored(entry)


@pytest.mark.parametrize("make", [an_entry, a_full_entry])
@pytest.mark.parametrize("count", [1, 2, 1100])
def test_rows_are_what_the_orm_would_have_written(make: Any, count: int):
    entries = [make() for _ in range(count)]

    insert_rows(entries, database="default")

    expected = written_by_the_orm(make)
    assert all(stored(entry) == expected for entry in (entries[0], entries[-1]))
    assert OutboxEntry.objects.count() == count + 1
    assert not any(entry._state.adding for entry in entries)
    assert {entry._state.db for entry in entries} == {"default"}


def test_each_row_gets_its_own_key():
    entries = [an_entry(subject=str(number)) for number in range(700)]

    insert_rows(entries, database="default")

    if connection.features.can_return_rows_from_bulk_insert:
        assert dict(OutboxEntry.objects.values_list("pk", "subject")) == {entry.pk: entry.subject for entry in entries}


def test_rows_may_differ_in_every_column():
    first, second = an_entry(), a_full_entry()

    insert_rows([first, second, an_entry()], database="default")

    assert stored(first) == written_by_the_orm(an_entry)
    assert stored(second) == written_by_the_orm(a_full_entry)


def test_what_equals_another_value_is_kept_as_it_is():
    entries = [an_entry() for _ in range(3)]
    insert_rows(entries, database="default")
    keys = OutboxEntry.objects.order_by("pk").values_list("pk", flat=True)
    values: list[Any] = [{"a": 1}, {"a": True}, {"a": 1.5}]
    contents = [EntryContent(entry_id=key, payload=value) for key, value in zip(keys, values, strict=True)]

    insert_rows(contents, database="default")

    found = list(EntryContent.objects.order_by("pk").values_list("payload", flat=True))
    assert [type(payload["a"]) for payload in found] == [int, bool, float]


def test_the_database_says_what_time_it_is():
    entries = [an_entry(created_at=NOW, due_at=NOW + timedelta(hours=1), expires_at=UtcNow()) for _ in range(2)]

    insert_rows(entries[:1], database="default")
    insert_rows([an_entry(), *entries[1:]], database="default")

    for entry in entries:
        entry = OutboxEntry.objects.annotate(now=UtcNow()).get(uuid=entry.uuid)
        assert timedelta(0) <= entry.now - entry.created_at < timedelta(minutes=5)
        assert (
            timedelta(hours=1) - timedelta(seconds=1) < entry.due_at - entry.created_at < timedelta(hours=1, seconds=1)
        )
        assert abs(entry.expires_at - entry.created_at) < timedelta(seconds=1)


@pytest.mark.parametrize("count", [1, 3])
def test_what_does_not_fit_is_refused_and_not_cut(count: int):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no lengths")
    entries = [an_entry(subject=f"{number} {'x' * 300}") for number in range(count)]

    with pytest.raises(DataError), transaction.atomic():
        insert_rows(entries, database="default")


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_there_already_is_left_as_it_is(count: int):
    entry = an_entry()
    insert_rows([entry], database="default")
    entry_id = OutboxEntry.objects.get(uuid=entry.uuid).pk
    claims = [uuid4() for _ in range(count)]

    def attempts(text: str) -> list[Attempt]:
        durations = [timedelta(days=-1, microseconds=number) for number in range(count)]
        usual = {"entry_id": entry_id, "number": 1, "started_at": MOMENT, "kind": "sent", "text": text}
        return [Attempt(claim_id=claim, duration=each, **usual) for claim, each in zip(claims, durations, strict=True)]

    insert_rows(attempts("first")[:1], on_conflict=OnConflict.IGNORE, database="default")
    insert_rows(attempts("then"), on_conflict=OnConflict.IGNORE, database="default")

    rows = Attempt.objects.order_by("pk").values_list("claim_id", "text", "duration", "started_at")
    texts = ["first", *["then"] * (count - 1)]
    assert list(rows) == [
        (claim, text, timedelta(days=-1, microseconds=number), MOMENT)
        for number, (claim, text) in enumerate(zip(claims, texts, strict=True))
    ]


@only_postgresql
@pytest.mark.parametrize("score", [float("inf"), float("nan")])
def test_what_json_cannot_carry_is_written_all_the_same(score: float):
    rows = [
        AttemptCount(using="m", kind="sent", within_ms=number, seconds=value)
        for number, value in enumerate((score, 1.5))
    ]

    insert_rows(rows, database="default")

    found = list(AttemptCount.objects.order_by("within_ms").values_list("seconds", flat=True))
    assert [str(value) for value in found] == [str(score), "1.5"]


def test_no_rows_are_no_statement(django_assert_num_queries: Any):
    with django_assert_num_queries(0):
        insert_rows([], database="default")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite takes row after row")
def test_many_rows_are_one_statement_and_a_look_at_their_keys():
    entries = [an_entry(subject=str(number)) for number in range(1100)]

    with CaptureQueriesContext(connection) as queries:
        insert_rows(entries, database="default")

    assert [query["sql"].count("INSERT INTO") for query in queries] == [1, 0]


def test_what_the_database_fills_in_by_itself_is_what_the_model_says():
    entry = an_entry()

    with CaptureQueriesContext(connection) as queries:
        insert_rows([entry], database="default")

    [statement] = [query["sql"] for query in queries]
    assert not any(name in statement for name in ("outcome_text", "attempts", "has_content", "expires_at"))
    assert stored(entry) == written_by_the_orm(an_entry)


class TestTogether:
    def test_all_rows_are_one_statement_on_postgresql_and_one_for_each_table_elsewhere(self):
        entry = an_entry(created_at=NOW)
        content = EntryContent(payload={"a": "ü %s"}, digest="d")
        recipients = [Recipient(role="to", address=f"{number}@x.example") for number in range(60)]

        with CaptureQueriesContext(connection) as queries:
            insert_together(entry, [content], recipients, by="entry_id", database="default")

        assert len(queries) == (1 if connection.vendor == "postgresql" else 3)
        assert entry.pk == OutboxEntry.objects.get(uuid=entry.uuid).pk == EntryContent.objects.get().pk
        assert EntryContent.objects.get().payload == {"a": "ü %s"}
        addresses = Recipient.objects.filter(entry=entry).order_by("pk").values_list("address", flat=True)
        assert list(addresses) == [recipient.address for recipient in recipients]

    def test_there_may_be_nobody_to_refer_to_it(self):
        entry = an_entry()

        insert_together(entry, [], [], by="entry_id", database="default")

        assert stored(entry) == written_by_the_orm(an_entry)

    def test_all_rows_or_none(self):
        insert_rows([an_entry(idempotency_key="k")], database="default")
        content = EntryContent(payload={}, digest="d")

        with pytest.raises(IntegrityError), transaction.atomic():
            insert_together(an_entry(idempotency_key="k"), [content], by="entry_id", database="default")

        assert OutboxEntry.objects.count() == 1
        assert not EntryContent.objects.exists()

    @only_postgresql
    def test_what_does_not_fit_leaves_nothing_of_the_rest(self):
        content = EntryContent(payload={}, digest="d")

        with pytest.raises(DataError), transaction.atomic():
            insert_together(
                an_entry(), [content], [Recipient(role="to", address="x" * 400)], by="entry_id", database="default"
            )

        assert not OutboxEntry.objects.exists()
        assert not EntryContent.objects.exists()
