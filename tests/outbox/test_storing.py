"""Attachments in a storage: moved there whole or not at all, deleted when nobody needs them, and no file without a row."""

import logging
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import File
from django.core.files.storage import FileSystemStorage, storages
from django.db import DatabaseError, OperationalError, connection
from django.db.models import F

from mail_outbox import outbox, transitions
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from mail_outbox.models import Attachment, AttachmentChunk, Attempt, OutboxEntry, StoredFile, UtcNow
from mail_outbox.outbox.pruning import keep_house
from mail_outbox.outbox.storing import STORED_ABOVE, delete_files, store_attachments
from tests.support import a_message, age

pytestmark = pytest.mark.django_db(transaction=True)

LARGE = b"%PDF\0\xff" * 200_000
HOURS = timedelta(hours=2)


class Crash(BaseException):
    """The process is gone."""


class Shelf(FileSystemStorage):
    """A storage in a folder that does something before or after it saves, opens or deletes."""

    def __init__(self, location: Path) -> None:
        super().__init__(location)
        self.before: dict[str, Callable[[], Any]] = {}
        self.after: dict[str, Callable[[], Any]] = {}
        self.readers: list[str] = []

    def _save(self, name: str, content: File) -> str:
        return self._do("save", lambda: super(Shelf, self)._save(name, content))

    def _open(self, name: str, mode: str = "rb") -> File:
        self.readers.append(threading.current_thread().name)
        return self._do("open", lambda: super(Shelf, self)._open(name, mode))

    def delete(self, name: str) -> None:
        self._do("delete", lambda: super(Shelf, self).delete(name))

    def _do(self, what: str, act: Callable[[], Any]) -> Any:
        self.before.get(what, lambda: None)()
        result = act()
        replaced = self.after.get(what, lambda: None)()
        return result if replaced is None else replaced

    @property
    def files(self) -> list[Path]:
        return [path for path in Path(self.location).rglob("*") if path.is_file()]


@pytest.fixture
def shelf(tmp_path: Path, settings) -> Iterator[Shelf]:
    """Let large attachments go into a folder."""
    settings.STORAGES = {"shelf": {"BACKEND": f"{__name__}.Shelf", "OPTIONS": {"location": tmp_path}}}
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ATTACHMENT_STORAGE": "shelf"}
    shelf = storages["shelf"]
    assert isinstance(shelf, Shelf)
    return shelf


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def enqueued(data: bytes = LARGE) -> OutboxEntry:
    return outbox.enqueue(a_message(attachments=[("report.pdf", data, "application/pdf")]))


def content_of(entry: OutboxEntry) -> bytes:
    content = OutboxEntry.objects.get(pk=entry.pk).message().attachments[0].content
    assert isinstance(content, bytes)
    return content


def store() -> int:
    return store_attachments(database="default")


def later() -> None:
    """Let two hours pass for every file that is on its way."""
    StoredFile.objects.update(due_at=F("due_at") - HOURS)


def assert_nothing_is_left_over(shelf: Shelf) -> None:
    """Check that each file is an attachment's and each attachment is whole, and that nothing is on its way."""
    named = Attachment.objects.exclude(storage_name="").values_list("storage_name", flat=True)
    assert sorted(str(path.relative_to(shelf.location)) for path in shelf.files) == sorted(named)
    assert not StoredFile.objects.exists()
    for attachment in Attachment.objects.all():
        assert AttachmentChunk.objects.filter(attachment=attachment).exists() == (not attachment.storage_name)


class TestMoving:
    def test_a_large_attachment_becomes_a_file(self, shelf: Shelf):
        entry = enqueued()

        assert store() == 1

        [path] = shelf.files
        assert path.read_bytes() == LARGE
        assert sha256(LARGE).hexdigest() in path.name
        assert content_of(entry) == LARGE
        assert_nothing_is_left_over(shelf)

    def test_a_small_one_stays_in_the_database(self, shelf: Shelf):
        enqueued(b"x" * STORED_ABOVE)

        assert store() == 0
        assert_nothing_is_left_over(shelf)

    def test_all_stay_there_without_the_setting(self, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ATTACHMENT_STORAGE": None}
        enqueued()

        assert store() == 0

    def test_the_same_bytes_again_need_neither_pieces_nor_another_file(self, shelf: Shelf):
        enqueued()
        store()

        entry = enqueued()

        assert store() == 0
        assert len(shelf.files) == 1
        assert content_of(entry) == LARGE
        assert_nothing_is_left_over(shelf)

    def test_another_setting_later_does_not_lose_what_was_stored_before(self, shelf: Shelf, settings):
        entry = enqueued()
        store()
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ATTACHMENT_STORAGE": None}

        assert content_of(entry) == LARGE
        OutboxEntry.objects.all().delete()
        outbox.prune()
        assert not shelf.files

    def test_a_storage_may_give_it_another_name(self, shelf: Shelf):
        entry = enqueued()

        def rename() -> str:
            [path] = shelf.files
            path.rename(Path(shelf.location) / "other.bin")
            return "other.bin"

        shelf.after["save"] = rename

        assert store() == 1
        assert content_of(entry) == LARGE
        assert_nothing_is_left_over(shelf)

    def test_it_ends_when_its_time_is_up(self, shelf: Shelf):
        enqueued()

        assert store_attachments(database="default", until=0.0) == 0

    def test_the_housekeeping_does_it(self, shelf: Shelf):
        enqueued()

        keep_house("default", seconds=60)

        assert len(shelf.files) == 1


class TestTrouble:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_crash_leaves_no_file_and_loses_no_bytes(self, shelf: Shelf, moment: str):
        entry = enqueued()
        getattr(shelf, moment)["save"] = raising(Crash())
        with pytest.raises(Crash):
            store()
        assert len(shelf.files) == (moment == "after")
        shelf.before.clear()
        shelf.after.clear()

        assert content_of(entry) == LARGE
        assert store() == 0, "somebody may still be at it"
        assert delete_files(database="default") == 0, "it may still arrive"
        later()
        assert delete_files(database="default") == 1
        assert not shelf.files
        assert store() == 1
        assert content_of(entry) == LARGE
        assert_nothing_is_left_over(shelf)

    @pytest.mark.parametrize("end", ["written", "lost"])
    def test_a_commit_that_nobody_knows_the_end_of_costs_no_bytes(self, shelf: Shelf, monkeypatch, end: str):
        entry = enqueued()
        note_stored = transitions.note_stored

        def note_and_lose(*arguments: Any, **keywords: Any) -> bool:
            if end == "written":
                note_stored(*arguments, **keywords)
            raise OperationalError("server closed the connection")

        monkeypatch.setattr(transitions, "note_stored", note_and_lose)
        with pytest.raises(DatabaseError):
            store()
        monkeypatch.undo()

        later()
        delete_files(database="default")
        assert content_of(entry) == LARGE
        assert_nothing_is_left_over(shelf)

    def test_what_a_storage_does_not_take_stays_in_the_database_and_is_logged(self, shelf: Shelf, caplog):
        entry = enqueued()
        shelf.before["save"] = raising(PermissionError("no"))

        with caplog.at_level(logging.WARNING, "mail_outbox"):
            assert store() == 0

        assert "attachment not stored" in caplog.messages
        assert content_of(entry) == LARGE
        delete_files(database="default")
        assert_nothing_is_left_over(shelf)

    def test_a_storage_that_keeps_only_a_part_is_not_believed(self, shelf: Shelf):
        entry = enqueued()
        shelf.after["save"] = lambda: shelf.files[0].write_bytes(LARGE[:100]) and None

        assert store() == 0

        assert content_of(entry) == LARGE
        delete_files(database="default")
        assert_nothing_is_left_over(shelf)

    def test_bytes_that_are_damaged_are_not_moved_and_hold_up_no_others(self, shelf: Shelf):
        enqueued()
        AttachmentChunk.objects.filter(number=0).update(data=b"?")
        enqueued(LARGE + b"more")

        assert store() == 1

        delete_files(database="default")
        assert_nothing_is_left_over(shelf)

    @pytest.mark.parametrize(
        "take",
        [lambda: delete_files(database="default"), lambda: transitions.take_file_to_delete(database="default")],
        ids=["deleted", "being deleted"],
    )
    def test_a_file_that_arrives_too_late_is_not_used(self, shelf: Shelf, take: Callable[[], object]):
        entry = enqueued()

        def overtake() -> None:
            later()
            assert take()

        shelf.before["save"] = overtake

        assert store() == 0

        assert content_of(entry) == LARGE
        assert delete_files(database="default") == 1
        assert_nothing_is_left_over(shelf)

    def test_an_attachment_that_is_pruned_on_its_way_leaves_no_file(self, shelf: Shelf):
        enqueued()

        def prune() -> None:
            OutboxEntry.objects.all().delete()
            outbox.prune()

        shelf.after["save"] = prune

        assert store() == 0
        assert delete_files(database="default") == 1
        assert_nothing_is_left_over(shelf)


class TestPruning:
    def test_the_file_goes_with_the_last_entry_that_needs_it(self, shelf: Shelf):
        enqueued()
        store()
        OutboxEntry.objects.update(state=State.SENT, finished_at=UtcNow() - timedelta(days=31))

        assert outbox.prune(dry_run=True) == outbox.PruneResult(entries=1, attachments=1, files=1)
        assert outbox.prune() == outbox.PruneResult(entries=1, attachments=1, files=1)
        assert_nothing_is_left_over(shelf)
        assert not shelf.files

    def test_a_prune_that_is_rolled_back_leaves_the_file(self, shelf: Shelf):
        enqueued()
        store()
        OutboxEntry.objects.all().delete()

        def lose_the_server(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
            if re.match("DELETE FROM .mail_outbox_attachment. ", sql):
                raise OperationalError("server closed the connection")
            return execute(sql, *arguments)

        with connection.execute_wrapper(lose_the_server), pytest.raises(OperationalError):
            outbox.prune()
        delete_files(database="default")

        assert len(shelf.files) == 1
        assert_nothing_is_left_over(shelf)
        assert content_of(enqueued()) == LARGE

    def test_a_file_that_cannot_be_deleted_is_tried_again_later(self, shelf: Shelf, caplog):
        enqueued()
        store()
        OutboxEntry.objects.all().delete()
        shelf.before["delete"] = raising(ConnectionError())

        assert outbox.prune().attachments == 1
        assert "file not deleted" in caplog.messages
        shelf.before.clear()

        assert delete_files(database="default") == 0, "not at once"
        later()
        assert keep_house("default", seconds=60).files == 1
        assert_nothing_is_left_over(shelf)
        assert not shelf.files


class TestDelivery:
    def attempts(self, entry: OutboxEntry) -> list[tuple[str, str]]:
        return list(Attempt.objects.filter(entry=entry).order_by("number").values_list("kind", "code"))

    def test_a_stored_attachment_is_delivered_and_only_a_sender_reads_it(self, shelf: Shelf, provider):
        enqueued()
        store()

        outbox.drain()

        assert provider.accepted[0].attachments[0].content == LARGE
        assert shelf.readers
        assert all("sender" in name for name in shelf.readers)

    def test_a_storage_that_cannot_be_read_delays_only_its_own_mail(self, shelf: Shelf, provider):
        entry = enqueued()
        store()
        outbox.enqueue_many(a_message(f"other {number}") for number in range(3))
        shelf.before["open"] = raising(ConnectionError("storage is away"))

        result = outbox.drain()

        assert (result.sent, result.transient) == (3, 1)
        assert self.attempts(entry) == [(Kind.TRANSIENT, "attachment")]
        entry.refresh_from_db()
        assert entry.state == State.SCHEDULED

        shelf.before.clear()
        age(entry, due_at=-HOURS)
        assert outbox.drain().sent == 1

    def test_a_file_that_is_missing_is_looked_for_three_times_within_an_hour(self, shelf: Shelf, provider):
        entry = enqueued()
        store()
        shelf.files[0].unlink()

        for _ in range(3):
            outbox.drain()
            entry.refresh_from_db()
            assert (entry.state, entry.outcome_code) == (State.SCHEDULED, "attachment")
            assert entry.due_at - OutboxEntry.objects.values_list(UtcNow(), flat=True).get() > timedelta(minutes=19)
            age(entry, due_at=-timedelta(minutes=20), first_due_at=-timedelta(minutes=20))
        outbox.drain()

        entry.refresh_from_db()
        assert (entry.state, entry.state_reason) == (State.FAILED, "attachment_missing")
        assert [kind for kind, _ in self.attempts(entry)] == [Kind.TRANSIENT] * 3 + [Kind.PERMANENT]

    def test_a_file_that_is_not_what_it_was_is_not_sent(self, shelf: Shelf, provider):
        entry = enqueued()
        store()
        shelf.files[0].write_bytes(b"other")

        outbox.drain()

        entry.refresh_from_db()
        assert entry.state == State.HELD
        assert "damaged" in entry.state_reason

    def test_a_message_whose_file_is_missing_is_unreadable_by_name(self, shelf: Shelf):
        entry = enqueued()
        store()
        shelf.files[0].unlink()

        with pytest.raises(outbox.UnreadableEnvelope, match="The storage 'shelf' has no such file"):
            content_of(entry)
