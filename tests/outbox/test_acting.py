"""What callers do to entries: cancel, hold, release, retry, resend."""

from datetime import timedelta

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
