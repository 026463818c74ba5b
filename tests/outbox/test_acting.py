"""What callers do to entries: cancel, hold, release, retry, resend, reschedule, mark as sent, change the mailer."""

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import Group

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry, Recipient
from tests.fakes import NOBODY_KNOWS, REFUSED, TRY_LATER
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

SOON = timedelta(hours=1)


@pytest.fixture
def sent(provider):
    entry = outbox.enqueue(a_message("sent"))
    outbox.drain()
    entry.refresh_from_db()
    return entry


@pytest.fixture
def failed(provider):
    provider.will(REFUSED)
    entry = outbox.enqueue(a_message("failed"))
    outbox.drain()
    entry.refresh_from_db()
    return entry


def test_a_copy_of_something_else_or_to_a_bare_text_is_refused_by_name(sent):
    with pytest.raises(outbox.InvalidOption, match="Expected one outbox entry, not int"):
        outbox.resend(sent.pk)
    with pytest.raises(outbox.InvalidOption, match="to must be a list of addresses"):
        outbox.resend(sent, to="jane@example.com")


def state_of(entry: OutboxEntry) -> tuple[str, str]:
    entry.refresh_from_db()
    return entry.state, entry.state_reason


class TestCancel:
    def test_it_stops_what_waits_and_counts_what_it_really_stopped(self, sent):
        queued, scheduled = outbox.enqueue(a_message()), outbox.enqueue(a_message(), send_at=SOON)

        assert outbox.cancel(queued, scheduled, sent) == 2

        assert state_of(queued) == state_of(scheduled) == (State.CANCELLED, "by hand")
        assert state_of(sent) == (State.SENT, "")

    def test_what_is_cancelled_is_not_sent(self, provider):
        outbox.cancel(outbox.enqueue(a_message()), reason="order withdrawn")

        outbox.drain()

        assert provider.accepted == []

    def test_a_queryset_must_be_unpacked(self):
        with pytest.raises(outbox.InvalidOption, match=r"verb\(\*entries\)"):
            outbox.cancel(OutboxEntry.objects.all())  # type: ignore[arg-type]


class TestHoldAndRelease:
    def test_what_is_held_stays_until_it_is_released(self, provider):
        entry = outbox.enqueue(a_message())

        assert outbox.hold(entry, reason="ask legal") == 1
        outbox.drain()
        assert state_of(entry) == (State.HELD, "ask legal")
        assert provider.accepted == []

        assert outbox.release(entry) == 1
        outbox.drain()
        assert state_of(entry) == (State.SENT, "")

    def test_only_what_is_held_can_be_released(self, sent):
        assert outbox.release(sent) == 0


class TestRetry:
    def test_the_same_entry_goes_once_more_under_the_same_message_id(self, failed, provider):
        message_id = failed.message_id

        assert outbox.retry(failed) == 1
        outbox.drain()

        failed.refresh_from_db()
        assert (failed.state, failed.attempts, failed.message_id) == (State.SENT, 2, message_id)
        assert provider.subjects == ["failed"]

    def test_the_count_of_attempts_goes_on_and_what_is_allowed_grows(self, failed):
        outbox.retry(failed)

        failed.refresh_from_db()
        assert (failed.attempts, failed.max_attempts) == (1, 31)

    def test_a_refused_recipient_is_open_again(self, failed):
        assert [recipient.status for recipient in Recipient.objects.all()] == ["refused"]

        outbox.retry(failed)

        assert [recipient.status for recipient in Recipient.objects.all()] == ["open"]

    def test_what_is_past_its_expiry_asks_for_a_new_one(self, provider):
        entry = outbox.enqueue(a_message(), expires_at=SOON)
        age(entry, expires_at=-2 * SOON)
        outbox.drain()
        assert state_of(entry)[0] == State.EXPIRED

        with pytest.raises(outbox.InvalidOption, match=f"Entry {entry.pk} expired"):
            outbox.retry(entry)
        assert outbox.retry(entry, expires_at=SOON) == 1
        outbox.drain()

        assert state_of(entry)[0] == State.SENT

    def test_ambiguous_attempts_before_it_no_longer_count(self, provider):
        provider.will(NOBODY_KNOWS, NOBODY_KNOWS)
        entry = outbox.enqueue(a_message(), on_ambiguous="hold")
        outbox.drain()
        assert state_of(entry) == (State.HELD, "ambiguous")
        OutboxEntry.objects.update(on_ambiguous="retry")

        outbox.retry(entry)
        outbox.drain()

        assert state_of(entry)[0] == State.SCHEDULED

    def test_what_has_been_sent_is_left_alone(self, sent):
        assert outbox.retry(sent) == 0


class TestResend:
    def test_a_new_entry_is_linked_to_the_old_one(self, sent, provider):
        copy = outbox.resend(sent)
        outbox.drain()

        copy.refresh_from_db()
        assert copy.resent_from == sent
        assert copy.message_id != sent.message_id
        assert (copy.state, copy.attempts) == (State.SENT, 1)
        assert provider.subjects == ["sent", "sent"]

    def test_another_address_replaces_all_recipients(self, provider):
        entry = outbox.enqueue(a_message(cc=["boss@example.com"], bcc=["archive@example.com"]))
        outbox.drain()

        copy = outbox.resend(entry, to=["john@example.com"])

        assert [recipient.address for recipient in copy.recipients.all()] == ["john@example.com"]

    def test_it_is_about_the_same_object_and_carries_the_same_tags(self, provider):
        group = Group.objects.create(name="g")
        entry = outbox.enqueue(a_message(), related=group, tags=["t"], priority=outbox.LOW)
        outbox.drain()

        copy = outbox.resend(entry)

        assert (copy.related_object, copy.tags, copy.priority) == (group, ["t"], outbox.LOW)

    def test_what_has_not_finished_cannot_be_sent_again(self, provider):
        provider.will(TRY_LATER)
        entry = outbox.enqueue(a_message())
        with pytest.raises(outbox.WrongState, match="'queued'"):
            outbox.resend(entry)
        outbox.drain()
        with pytest.raises(outbox.WrongState, match="'scheduled'"):
            outbox.resend(entry)

    def test_two_clicks_make_one_copy(self, sent):
        first = outbox.resend(sent, idempotency_key="click")

        assert outbox.resend(sent, idempotency_key="click") == first
        assert OutboxEntry.objects.count() == 2


class TestReschedule:
    def test_what_waits_and_what_is_held_gets_another_time(self, sent, provider):
        queued, scheduled, held = (outbox.enqueue(a_message(), send_at=delay) for delay in (None, SOON, None))
        outbox.hold(held, reason="ask legal")

        assert outbox.reschedule(queued, scheduled, held, sent, send_at=3 * SOON) == 3
        outbox.drain()

        assert state_of(queued) == state_of(scheduled) == state_of(held) == (State.SCHEDULED, "")
        assert held.finished_at is None
        assert timedelta(minutes=179) < queued.due_at - queued.created_at < timedelta(minutes=181)
        assert provider.subjects == ["sent"]

    def test_at_the_new_time_it_goes_and_its_age_counts_from_there(self, provider):
        entry = outbox.enqueue(a_message())
        outbox.reschedule(entry, send_at=SOON)
        age(entry, due_at=-2 * SOON)

        outbox.drain()

        assert state_of(entry)[0] == State.SENT
        assert entry.first_due_at > entry.created_at + SOON / 2

    def test_what_would_be_past_its_expiry_by_then_is_refused(self):
        entry = outbox.enqueue(a_message(), expires_at=SOON)

        with pytest.raises(outbox.InvalidOption, match=f"Entry {entry.pk} expires at"):
            outbox.reschedule(entry, send_at=2 * SOON)
        assert state_of(entry)[0] == State.QUEUED

    def test_a_moment_without_a_time_zone_is_refused(self):
        with pytest.raises(outbox.InvalidOption, match="no time zone"):
            outbox.reschedule(outbox.enqueue(a_message()), send_at=datetime(2030, 1, 1))


class TestMarkSent:
    def test_what_is_held_is_settled_with_its_recipients(self, provider):
        provider.will(NOBODY_KNOWS)
        entry = outbox.enqueue(a_message(), on_ambiguous="hold")
        outbox.drain()

        assert outbox.mark_sent(entry, reason="seen in the provider's log") == 1
        outbox.drain()

        assert state_of(entry) == (State.SENT, "seen in the provider's log")
        assert [recipient.status for recipient in entry.recipients.all()] == ["accepted"]
        assert provider.accepted == []

    def test_nothing_else_can_be_marked(self, failed, sent):
        waiting = outbox.enqueue(a_message())

        assert outbox.mark_sent(failed, sent, waiting) == 0
        assert (state_of(failed)[0], state_of(waiting)[0]) == (State.FAILED, State.QUEUED)


class TestChangeMailer:
    def test_another_mailer_sends_it(self, providers):
        entry, held = outbox.enqueue(a_message("one")), outbox.enqueue(a_message("two"))
        outbox.hold(held, reason="wait")

        assert outbox.change_mailer(entry, held, using="bulk") == 2
        outbox.drain()

        assert providers["bulk"].subjects == ["one"]
        assert providers["default"].subjects == []
        assert state_of(held) == (State.HELD, "wait")

    def test_what_has_it_already_or_has_gone_is_not_counted(self, providers):
        gone = outbox.enqueue(a_message())
        outbox.drain()
        there = outbox.enqueue(a_message(), using="bulk")

        assert outbox.change_mailer(gone, there, using="bulk") == 0

    def test_a_mailer_that_does_not_exist_is_refused(self, providers):
        entry = outbox.enqueue(a_message())

        with pytest.raises(outbox.UnknownMailer, match="Did you mean 'bulk'"):
            outbox.change_mailer(entry, using="bluk")

    def test_it_leaves_its_route_for_the_mailer_it_was_given(self, providers, settings):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ROUTES": {"both": ["default", "bulk"]}}
        entry = outbox.enqueue(a_message(), using="both")

        outbox.change_mailer(entry, using="bulk")

        entry.refresh_from_db()
        assert (entry.using, entry.route) == ("bulk", "")
        with pytest.raises(outbox.UnknownMailer, match="is a route"):
            outbox.change_mailer(entry, using="both")
