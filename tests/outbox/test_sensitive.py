"""Sensitive content is gone as soon as its entry is sent or dead."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.mail import EmailMultiAlternatives

from mail_outbox import outbox, transitions
from mail_outbox.models import Attachment, EntryContent, OutboxEntry
from tests.fakes import NOBODY_KNOWS, REFUSED, TRY_LATER
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def a_secret(subject: str = "Your code is 123456") -> EmailMultiAlternatives:
    message = EmailMultiAlternatives(subject, "Code 123456", "shop@example.com", ["jane@example.com"])
    message.attach("code.bin", b"123456" * 1000, "application/octet-stream")
    return message


def enqueue(**options) -> OutboxEntry:
    return outbox.enqueue(a_secret(), sensitive=True, **options)


def is_erased(entry: OutboxEntry) -> bool:
    entry.refresh_from_db()
    has_rows = EntryContent.objects.filter(pk=entry.pk).exists() or Attachment.objects.exists()
    assert entry.has_content == has_rows == bool(entry.subject)
    return not has_rows


class TestErasing:
    def test_what_is_sent_loses_its_content_with_the_success(self, provider):
        entry = enqueue()

        outbox.drain()

        assert entry.state == "queued"
        assert is_erased(entry)
        assert (entry.state, len(provider.accepted)) == ("sent", 1)

    def test_what_is_refused_for_good_does_too(self, provider):
        provider.will(REFUSED)
        entry = enqueue()

        outbox.drain()

        assert is_erased(entry)
        assert entry.state == "failed"

    def test_what_will_be_tried_again_keeps_it(self, provider):
        provider.will(TRY_LATER)
        entry = enqueue()

        outbox.drain()

        assert not is_erased(entry)
        assert entry.state == "scheduled"

    def test_what_waits_for_a_person_keeps_it(self, provider):
        provider.will(NOBODY_KNOWS)
        entry = enqueue(on_ambiguous="hold")

        outbox.drain()

        assert not is_erased(entry)
        assert entry.state == "held"

    def test_held_and_retried_it_is_sent_and_erased(self, provider):
        entry = enqueue()
        outbox.hold(entry, reason="look")
        outbox.retry(entry)

        outbox.drain()

        assert is_erased(entry)
        assert len(provider.accepted) == 1

    def test_what_somebody_marks_as_sent_loses_it(self):
        entry = enqueue()
        outbox.hold(entry, reason="look")

        outbox.mark_sent(entry)

        assert is_erased(entry)

    def test_what_is_cancelled_loses_it(self):
        entry = enqueue()

        outbox.cancel(entry)

        assert is_erased(entry)

    @pytest.mark.parametrize("options", [{}, {"send_at": timedelta(minutes=1)}], ids=["queued", "scheduled"])
    def test_what_expires_loses_it(self, provider, options):
        entry = enqueue(expires_at=HOUR, **options)
        age(entry, expires_at=-2 * HOUR)

        outbox.drain()

        assert is_erased(entry)
        assert entry.state == "expired"

    def test_what_expires_at_the_last_moment_loses_it(self, provider):
        entry = enqueue(expires_at=HOUR)
        age(entry, expires_at=-2 * HOUR)

        transitions.claim("default", 1, claim_id=uuid4(), worker="w", lease=HOUR, database="default")

        assert is_erased(entry)

    def test_send_now_leaves_nothing_behind(self, provider):
        entry = outbox.send_now(a_secret(), sensitive=True)

        assert is_erased(entry)

    def test_an_attachment_that_others_need_stays(self, provider):
        entry = enqueue()
        outbox.enqueue(a_secret(), send_at=HOUR)

        outbox.drain()

        entry.refresh_from_db()
        assert not entry.has_content
        assert Attachment.objects.count() == 1

    def test_on_a_development_server_it_stays_for_the_mailbox(self, provider, settings):
        settings.DEBUG = True
        entry = enqueue()

        outbox.drain()

        assert not is_erased(entry)
        assert entry.state == "sent"

    def test_other_mail_keeps_its_content(self, provider):
        entry = outbox.enqueue(a_message())

        outbox.drain()

        entry.refresh_from_db()
        assert (entry.has_content, entry.subject) == (True, "Hello")


class TestAfterwards:
    def test_a_resend_says_that_the_content_was_erased(self, provider):
        entry = enqueue()
        outbox.drain()

        with pytest.raises(outbox.UnreadableEnvelope, match="was erased when it ended, because it is sensitive"):
            outbox.resend(entry)

    def test_a_retry_leaves_it_where_it_is(self, provider):
        provider.will(REFUSED)
        entry = enqueue()
        outbox.drain()

        assert outbox.retry(entry) == 0
        entry.refresh_from_db()
        assert entry.state == "failed"

    @pytest.mark.parametrize("on_conflict", ["return", "raise"])
    def test_the_same_idempotency_key_still_finds_it(self, provider, on_conflict):
        entry = enqueue(idempotency_key="code-1")
        outbox.drain()

        again = enqueue(idempotency_key="code-1", on_conflict=on_conflict)

        assert (again, again.is_duplicate) == (entry, True)
