"""prune: what finished long ago goes, what has not finished stays, and attachments go with the last who needs them."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, models, transaction
from django.test.utils import CaptureQueriesContext

from mail_outbox import outbox, transitions
from mail_outbox.core.states import FINISHED, UNFINISHED, State
from mail_outbox.models import (
    Attachment,
    AttachmentChunk,
    Attempt,
    DeliveryEvent,
    EntryContent,
    OutboxEntry,
    Recipient,
    UtcNow,
)
from mail_outbox.outbox.pruning import keep_house, prune_in_steps
from tests.support import a_message

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
PDF = ("terms.pdf", b"%PDF terms", "application/pdf")


def entry_in(state: State, *, days: float = 0, **keywords: object) -> OutboxEntry:
    """Return an entry in the state, finished so many days ago where that is a state in which one has finished."""
    entry = outbox.enqueue(a_message(**keywords))
    finished_at = UtcNow() - days * DAY if state in FINISHED else None
    OutboxEntry.objects.filter(pk=entry.pk).update(state=state, finished_at=finished_at)
    entry.refresh_from_db()
    return entry


def left() -> set[OutboxEntry]:
    return set(OutboxEntry.objects.all())


class TestEntries:
    @pytest.mark.parametrize("state", sorted(FINISHED))
    def test_what_finished_long_ago_goes_with_all_that_is_its(self, state: State):
        old = entry_in(state, days=91, attachments=[PDF])
        Attempt.objects.create(
            entry=old, number=1, claim_id=old.uuid, using="default", started_at=UtcNow(), kind="sent"
        )
        young = entry_in(state, days=29)

        result = outbox.prune()

        assert left() == {young}
        assert result == outbox.PruneResult(entries=1, attempts=1, attachments=1, contents=state is State.SENT)
        assert not Attempt.objects.exists()
        assert set(Recipient.objects.values_list("entry", flat=True)) == {young.pk}

    @pytest.mark.parametrize("state", sorted(FINISHED - {State.SENT}))
    def test_what_failed_stays_longer_than_what_was_sent(self, state: State):
        entry_in(State.SENT, days=31)
        failed = entry_in(state, days=89)

        outbox.prune()

        assert left() == {failed}

    @pytest.mark.parametrize("state", sorted(UNFINISHED))
    def test_what_has_not_finished_is_never_touched(self, state: State):
        entry = entry_in(state, attachments=[PDF])
        OutboxEntry.objects.update(created_at=UtcNow() - 1000 * DAY, due_at=UtcNow() - 1000 * DAY)

        assert outbox.prune(sent=timedelta(0), failed=timedelta(0), content=timedelta(0)) == outbox.PruneResult()
        assert OutboxEntry.objects.get(pk=entry.pk).message().attachments

    def test_ages_can_be_said(self):
        sent, failed = entry_in(State.SENT, days=2), entry_in(State.FAILED, days=2)

        outbox.prune(sent=DAY)
        assert left() == {failed}

        outbox.prune(failed=3 * DAY)
        assert left() == {failed}

        outbox.prune(failed=DAY)
        assert not left()
        assert sent.pk

    def test_the_settings_can_keep_them_for_ever(self, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "RETENTION": {"sent": None, "content": None, "failed": DAY}}
        sent = entry_in(State.SENT, days=1000)
        entry_in(State.FAILED, days=2)

        outbox.prune()

        assert left() == {sent}
        assert OutboxEntry.objects.get().message()

    def test_a_limit_is_kept(self):
        for _ in range(5):
            entry_in(State.SENT, days=31)

        assert outbox.prune(limit=2).entries == 2
        assert OutboxEntry.objects.count() == 3

    def test_what_was_sent_again_outlives_what_it_was_sent_from(self):
        again = outbox.resend(entry_in(State.SENT, days=31))
        OutboxEntry.objects.filter(pk=again.pk).update(state=State.QUEUED)

        outbox.prune(content=1000 * DAY)

        again.refresh_from_db()
        assert again.resent_from is None

    @pytest.mark.parametrize("name", ["sent", "failed", "content"])
    @pytest.mark.parametrize("age", [-DAY, 7], ids=["negative", "a number"])
    def test_an_age_that_is_none_is_refused_by_name(self, name: str, age: object):
        with pytest.raises(outbox.InvalidOption, match=name):
            outbox.prune(**{name: age})

    def test_a_limit_that_is_none_is_refused(self):
        with pytest.raises(outbox.InvalidOption, match="limit"):
            outbox.prune(limit=0)


class TestFacts:
    def facts(self, entry: OutboxEntry, *, days: float) -> None:
        happened = UtcNow() - days * DAY
        Attempt.objects.create(
            entry=entry, number=1, claim_id=uuid4(), using="default", started_at=happened, kind="sent"
        )
        DeliveryEvent.objects.create(
            entry=entry, esp="x", event_id=uuid4().hex, event_type="opened", happened_at=happened, received_at=happened
        )

    def test_they_stay_as_long_as_their_entry(self):
        self.facts(entry_in(State.SENT, days=29), days=29)

        assert not outbox.prune(content=999 * DAY)

    def test_each_has_an_age_of_its_own_if_one_is_said(self):
        self.facts(entry_in(State.SENT, days=3), days=3)
        self.facts(entry_in(State.SENT, days=1), days=1)

        ages = {"attempts": 2 * DAY, "events": 4 * DAY}
        assert outbox.prune(**ages, dry_run=True) == outbox.PruneResult(attempts=1)
        assert outbox.prune(**ages) == outbox.PruneResult(attempts=1)
        assert outbox.prune(events=2 * DAY) == outbox.PruneResult(events=1)
        assert (Attempt.objects.count(), DeliveryEvent.objects.count(), OutboxEntry.objects.count()) == (1, 1, 2)

    def test_those_of_what_has_not_finished_are_passed_over(self):
        waiting = entry_in(State.SCHEDULED)
        for _ in range(3):
            self.facts(waiting, days=9)
        self.facts(entry_in(State.SENT, days=9), days=9)

        assert transitions.prune_facts("attempts", DAY, limit=3, database="default")[0].attempts == 0
        assert outbox.prune(content=999 * DAY, attempts=DAY, limit=3).attempts == 1
        assert set(Attempt.objects.values_list("entry", flat=True)) == {waiting.pk}


class TestContents:
    def test_the_content_of_what_was_sent_goes_before_its_entry(self):
        entry = entry_in(State.SENT, days=8, attachments=[PDF])

        result = outbox.prune()

        entry = OutboxEntry.objects.get(pk=entry.pk)
        assert result == outbox.PruneResult(contents=1, attachments=1)
        assert (entry.has_content, entry.subject, entry.recipients.count()) == (False, "Hello", 1)
        assert not EntryContent.objects.exists()
        assert outbox.prune() == outbox.PruneResult()

    def test_content_that_has_been_pruned_is_told_as_such(self):
        entry = entry_in(State.SENT, days=8)
        outbox.prune()

        with pytest.raises(outbox.UnreadableEnvelope, match="has been pruned"):
            OutboxEntry.objects.get(pk=entry.pk).message()
        with pytest.raises(outbox.UnreadableEnvelope, match="has been pruned"):
            outbox.resend(OutboxEntry.objects.get(pk=entry.pk))

    @pytest.mark.parametrize("state", sorted(FINISHED - {State.SENT}))
    def test_what_can_be_retried_keeps_its_content(self, state: State, provider):
        entry = entry_in(state, days=60)

        outbox.prune()

        outbox.retry(OutboxEntry.objects.get(pk=entry.pk))
        assert outbox.drain().sent == 1


class TestAttachments:
    def test_an_attachment_goes_with_the_last_entry_that_needs_it(self):
        entry_in(State.SENT, days=31, attachments=[PDF])
        young = entry_in(State.SENT, attachments=[PDF])

        assert outbox.prune().attachments == 0
        assert OutboxEntry.objects.get(pk=young.pk).message().attachments[0].content == PDF[1]

        assert outbox.prune(sent=timedelta(0)).attachments == 1
        assert not AttachmentChunk.objects.exists()

    def test_one_that_somebody_has_left_behind_is_found(self):
        entry = outbox.enqueue(a_message(attachments=[PDF]), idempotency_key="k")
        outbox.enqueue(a_message("other"), idempotency_key="k", on_conflict="replace")
        assert Attachment.objects.count() == 1

        assert outbox.prune().attachments == 1
        assert OutboxEntry.objects.get(pk=entry.pk).message().subject == "other"

    def test_one_that_is_needed_cannot_be_deleted(self):
        entry_in(State.QUEUED, attachments=[PDF])

        with pytest.raises(models.ProtectedError):
            Attachment.objects.get().delete()

    def test_their_bytes_are_not_read_to_remove_them(self):
        entry_in(State.SENT, days=31, attachments=[PDF])

        with CaptureQueriesContext(connection) as queries:
            outbox.prune()

        reads = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
        assert not [sql for sql in reads if '"data"' in sql or '"payload"' in sql or "`data`" in sql]


class TestDryRun:
    def test_it_counts_what_a_prune_removes_and_removes_nothing(self):
        for state, days in ((State.SENT, 31), (State.SENT, 8), (State.SENT, 1), (State.FAILED, 91), (State.HELD, 8)):
            entry_in(state, days=days, attachments=[(f"{state}{days}", f"{state}{days}".encode() * 5, "a/b"), PDF])
        entry_in(State.QUEUED)
        before = left()

        expected = outbox.prune(dry_run=True)

        assert left() == before
        assert expected == outbox.PruneResult(entries=2, contents=1, attachments=3)
        removed = outbox.prune()
        assert (removed.entries, removed.attachments) == (2, 3)

    def test_it_may_be_asked_inside_a_transaction(self):
        with transaction.atomic():
            assert outbox.prune(dry_run=True) == outbox.PruneResult()


@pytest.mark.django_db(transaction=True)
def test_it_wants_no_transaction_around_it():
    with transaction.atomic(), pytest.raises(outbox.InTransaction, match="prune"):
        outbox.prune()


class TestHousekeeping:
    def test_it_removes_old_entries_contents_and_attachments(self):
        entry_in(State.SENT, days=31, attachments=[PDF])
        entry_in(State.EXPIRED, days=91)
        entry_in(State.SENT, days=8)

        result = keep_house("default", seconds=60)

        assert result == outbox.PruneResult(entries=2, contents=1, attachments=1)
        assert OutboxEntry.objects.count() == 1

    def test_it_ends_when_its_time_is_up(self):
        entry_in(State.SENT, days=31)

        assert keep_house("default", seconds=0).entries == 0


@pytest.mark.parametrize(("seconds", "sizes"), [(0.0, [50, 40]), (1.0, [50, 25, 12])])
def test_the_batches_follow_the_time_they_take(seconds: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch):
    outbox.enqueue_many(a_message() for _ in range(90))
    OutboxEntry.objects.update(state=State.SENT, finished_at=UtcNow() - 31 * DAY)
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def delete_slowly(execute, sql, *arguments):
        if sql.startswith("DELETE FROM") and OutboxEntry._meta.db_table in sql:
            now[0] += seconds
        return execute(sql, *arguments)

    with connection.execute_wrapper(delete_slowly):
        steps = [step.entries for step in prune_in_steps() if step.entries]

    assert steps[: len(sizes)] == sizes
    assert sum(steps) == 90
