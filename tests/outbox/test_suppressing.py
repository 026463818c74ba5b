"""Suppressed addresses: left out where mail is enqueued, and everybody is told the truth about it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.models import EntryContent, OutboxEntry, Suppression, UtcNow
from mail_outbox.outbox import enqueueing, suppressing
from tests.fakes import Provider
from tests.support import a_message

pytestmark = pytest.mark.django_db

JANE, BOB = "jane@example.com", "bob@example.com"
DAY = timedelta(days=1)


def rows(entry: OutboxEntry) -> dict[str, tuple[str, str]]:
    """Return what became of each recipient, with its code."""
    return {row.address: (row.status, row.code) for row in entry.recipients.all()}


def fate(entry: OutboxEntry) -> tuple[str, str]:
    entry.refresh_from_db()
    return entry.state, entry.state_reason


class TestVerbs:
    def test_an_address_is_kept_normalised(self):
        outbox.suppress("Jane <Jane@EXÄMPLE.com>", reason="asked us", until=DAY)

        row = Suppression.objects.get()
        assert (row.address, row.reason) == ("jane@xn--exmple-cua.com", "asked us")
        assert abs(row.until - row.since - DAY) < timedelta(minutes=1)

    @pytest.mark.parametrize("address", ["jane", "jane, bob", "jane@example.com, bob@example.com", ""])
    def test_what_is_no_address_is_refused(self, address):
        with pytest.raises(outbox.InvalidOption):
            outbox.suppress(address)

    @pytest.mark.parametrize("until", [datetime(2030, 1, 1), -DAY, "tomorrow"])
    def test_an_end_is_aware_or_a_delay(self, until):
        with pytest.raises(outbox.InvalidOption, match="until"):
            outbox.suppress(JANE, until=until)

    def test_what_is_taken_off_the_list_is_counted(self):
        outbox.suppress(JANE)

        assert outbox.unsuppress(JANE.upper()) == 1
        assert outbox.unsuppress(JANE) == 0

    def test_an_unknown_database_is_refused(self):
        with pytest.raises(outbox.InvalidOption, match="nowhere"):
            outbox.suppress(JANE, database="nowhere")


class TestEnqueue:
    def test_one_of_two_is_left_out_and_recorded_whatever_the_case(self, provider: Provider):
        outbox.suppress("JANE@example.com")

        entry = outbox.enqueue(a_message(to=["Jane <jane@Example.COM>", BOB]))

        assert entry.state == State.QUEUED
        assert rows(entry) == {JANE: ("suppressed", "suppressed"), BOB: ("open", "")}

    def test_where_all_are_suppressed_the_entry_is_cancelled_and_there_to_see(self, provider: Provider):
        outbox.suppress(JANE)
        outbox.suppress(BOB)

        entry = outbox.enqueue(a_message(to=[JANE], cc=[JANE], bcc=[BOB]))

        assert (entry.state, entry.state_reason) == fate(entry) == (State.CANCELLED, "suppressed")
        assert entry.finished_at is not None
        assert entry.recipients.count() == 3
        assert set(rows(entry).values()) == {("suppressed", "suppressed")}
        assert entry.message().to == [JANE]
        outbox.drain()
        assert provider.accepted == []

    def test_it_can_be_sent_all_the_same_and_the_entry_says_so(self, provider: Provider):
        outbox.suppress(JANE)

        entry = outbox.enqueue(a_message(to=[JANE, BOB]), ignore_suppression=True)
        outbox.drain()

        assert entry.ignore_suppression
        assert rows(entry) == {JANE: ("accepted", ""), BOB: ("accepted", "")}

    def test_what_has_run_out_stands_in_nobodys_way(self):
        outbox.suppress(JANE, until=DAY)
        Suppression.objects.update(until=UtcNow() - DAY)

        assert outbox.enqueue(a_message(to=[JANE])).state == State.QUEUED

    @pytest.mark.parametrize(
        ("send_at", "state"),
        [(2 * DAY, State.SCHEDULED), (datetime.now(UTC) + 2 * DAY, State.SCHEDULED), (DAY / 2, State.CANCELLED)],
    )
    def test_what_runs_out_before_the_mail_is_to_go_stands_in_nobodys_way(self, send_at, state):
        outbox.suppress(JANE, until=DAY)

        assert outbox.enqueue(a_message(to=[JANE]), send_at=send_at).state == state

    def test_who_was_erased_is_still_not_written_to(self):
        outbox.suppress(JANE)
        outbox.erase(JANE)

        assert not Suppression.objects.filter(address=JANE).exists()
        assert fate(outbox.enqueue(a_message(to=[JANE]))) == (State.CANCELLED, "suppressed")

    def test_a_row_written_by_hand_counts_too(self):
        Suppression.objects.create(address=JANE, reason="complained", since=UtcNow())

        assert outbox.enqueue(a_message(to=[JANE])).state == State.CANCELLED

    def test_a_sensitive_one_that_goes_to_nobody_is_not_kept(self, settings):
        settings.DEBUG = False
        outbox.suppress(JANE)

        entry = outbox.enqueue(a_message("your code is 1234", to=[JANE]), sensitive=True)

        entry.refresh_from_db()
        assert (entry.state, entry.has_content, entry.subject) == (State.CANCELLED, False, "")
        assert not EntryContent.objects.exists()

    def test_the_drop_in_counts_it_as_taken(self):
        outbox.suppress(JANE)

        assert outbox.enqueue_as_django(a_message(to=[JANE])).state == State.CANCELLED


class TestCost:
    @pytest.fixture(autouse=True)
    def unhurried(self, monkeypatch: pytest.MonkeyPatch):
        """Let no look come due in between."""
        monkeypatch.setattr(suppressing, "LOOK_EVERY", 1e9)

    def test_it_costs_nothing_any_more_once_the_list_is_found_empty(self, monkeypatch):
        outbox.suppress(BOB)
        outbox.unsuppress(BOB)
        with CaptureQueriesContext(connection) as before:
            outbox.enqueue(a_message())
        monkeypatch.setattr(suppressing, "LOOK_EVERY", 0.0)
        outbox.enqueue(a_message())
        with CaptureQueriesContext(connection) as after:
            outbox.enqueue(a_message())

        assert len(after) == len(before) - 1

    def test_it_costs_one_query_for_each_call_and_none_where_nobody_is_suppressed(self):
        with CaptureQueriesContext(connection) as without:
            outbox.enqueue(a_message())
        outbox.suppress(BOB)
        with CaptureQueriesContext(connection) as with_one:
            outbox.enqueue(a_message())

        assert len(with_one) == len(without) + 1

    def test_it_costs_one_query_for_a_batch(self):
        with CaptureQueriesContext(connection) as without:
            outbox.enqueue_many(a_message(to=[f"{number}@example.com", BOB]) for number in range(100))
        outbox.suppress("7@example.com")
        with CaptureQueriesContext(connection) as with_one:
            entries = outbox.enqueue_many(a_message(to=[f"{number}@example.com", BOB]) for number in range(100))

        assert len(with_one) == len(without) + 1
        assert rows(entries[7]) == {"7@example.com": ("suppressed", "suppressed"), BOB: ("open", "")}
        assert set(rows(entries[8]).values()) == {("open", "")}

    def test_of_many_only_those_that_go_to_nobody_are_cancelled(self):
        outbox.suppress("7@example.com")

        entries = outbox.enqueue_many(a_message(to=[f"{number}@example.com"]) for number in range(10))

        assert [number for number, entry in enumerate(entries) if entry.state == State.CANCELLED] == [7]
        assert OutboxEntry.objects.filter(state=State.CANCELLED).get() == entries[7]


class TestAnotherProcess:
    """What another process has put on the list is found by the worker in any case, and by enqueue before long."""

    def put_elsewhere(self) -> None:
        outbox.suppress(JANE)
        suppressing.forget()

    def test_it_is_known_once_something_was_committed(self, django_capture_on_commit_callbacks):
        self.put_elsewhere()
        with django_capture_on_commit_callbacks(execute=True):
            assert outbox.enqueue(a_message()).state == State.QUEUED

        assert outbox.enqueue(a_message()).state == State.CANCELLED

    def test_it_is_looked_for_again_after_a_while_only(self, django_capture_on_commit_callbacks, monkeypatch):
        with django_capture_on_commit_callbacks(execute=True):
            outbox.enqueue(a_message())
        outbox.suppress(JANE)
        suppressing._lists["default"].is_empty = True  # as if another process had done it

        with django_capture_on_commit_callbacks(execute=True):
            outbox.enqueue(a_message())
        assert outbox.enqueue(a_message()).state == State.QUEUED

        monkeypatch.setattr(suppressing, "LOOK_EVERY", 0.0)
        with django_capture_on_commit_callbacks(execute=True):
            outbox.enqueue(a_message())
        assert outbox.enqueue(a_message()).state == State.CANCELLED

    def test_the_worker_finds_it_all_the_same(self, provider: Provider):
        self.put_elsewhere()
        entry = outbox.enqueue(a_message())

        outbox.drain()

        assert fate(entry) == (State.CANCELLED, "suppressed")
        assert provider.accepted == []


class TestOtherWays:
    def test_send_now_writes_to_nobody_who_is_suppressed(self, provider: Provider):
        outbox.suppress(JANE)

        entry = outbox.send_now(a_message(to=[JANE]))

        assert fate(entry) == (State.CANCELLED, "suppressed")
        assert provider.accepted == []

    def test_send_now_says_it_all_the_same_if_told_to(self, provider: Provider):
        outbox.suppress(JANE)

        assert outbox.send_now(a_message(to=[JANE]), ignore_suppression=True).state == State.SENT

    def test_a_replacement_goes_to_nobody_who_is_suppressed(self):
        entry = outbox.enqueue(a_message(to=[JANE]), idempotency_key="k")
        outbox.suppress(BOB)

        outbox.enqueue(a_message("other", to=[JANE, BOB]), idempotency_key="k", on_conflict="replace")
        assert rows(entry) == {JANE: ("open", ""), BOB: ("suppressed", "suppressed")}

        again = outbox.enqueue(a_message("third", to=[BOB]), idempotency_key="k", on_conflict="replace")
        assert fate(entry) == (again.state, again.state_reason) == (State.CANCELLED, "suppressed")

    def test_a_copy_asks_the_list_again(self, provider: Provider):
        entry = outbox.enqueue(a_message(to=[JANE]))
        outbox.drain()
        entry.refresh_from_db()
        outbox.suppress(JANE)

        assert outbox.resend(entry).state == State.CANCELLED
        assert outbox.resend(entry, to=[BOB]).state == State.QUEUED

    def test_a_copy_of_what_goes_to_everybody_goes_to_everybody(self, provider: Provider):
        outbox.suppress(JANE)
        entry = outbox.enqueue(a_message(to=[JANE]), ignore_suppression=True)
        outbox.drain()
        entry.refresh_from_db()

        assert outbox.resend(entry).state == State.QUEUED

    def test_a_retry_asks_the_list_again(self, provider: Provider):
        outbox.suppress(JANE)
        entry = outbox.enqueue(a_message(to=[JANE]))

        outbox.retry(entry)
        outbox.drain()
        assert fate(entry) == (State.CANCELLED, "suppressed")

        outbox.unsuppress(JANE)
        outbox.retry(entry)
        outbox.drain()
        assert fate(entry)[0] == State.SENT
        assert rows(entry) == {JANE: ("accepted", "")}

    def test_who_was_left_out_stays_so_unless_somebody_retries_it(self, provider: Provider):
        outbox.suppress(JANE)
        entry = outbox.enqueue(a_message(to=[JANE, BOB]))
        outbox.unsuppress(JANE)

        outbox.drain()

        assert fate(entry)[0] == State.SENT
        assert rows(entry) == {JANE: ("suppressed", "suppressed"), BOB: ("accepted", "")}

    def test_it_is_done_in_the_callers_transaction(self):
        with transaction.atomic():
            outbox.suppress(JANE)
            transaction.set_rollback(True)

        assert outbox.enqueue(a_message(to=[JANE])).state == State.QUEUED
        assert not Suppression.objects.exists()

    def test_a_moment_is_an_end_as_good_as_a_delay(self):
        outbox.suppress(JANE, until=datetime.now(UTC) + DAY)

        assert outbox.enqueue(a_message(to=[JANE])).state == State.CANCELLED
        Suppression.objects.update(until=F("until") - 2 * DAY)
        assert outbox.enqueue(a_message(to=[JANE])).state == State.QUEUED


def test_a_bulk_of_sensitive_mail_with_attachments_leaves_out_whom_it_must(monkeypatch):
    monkeypatch.setattr(enqueueing, "BATCH", 2)
    outbox.suppress(JANE)
    file = ("a.pdf", b"%PDF", "application/pdf")

    entries = outbox.enqueue_many(
        [a_message(to=[to], attachments=[file]) for to in (JANE, BOB, JANE)],
        sensitive=True,
    )

    assert [entry.state for entry in entries] == ["cancelled", "queued", "cancelled"]
    stored = OutboxEntry.objects.order_by("pk").values_list("state", "has_content")
    assert list(stored) == [("cancelled", False), ("queued", True), ("cancelled", False)]
