"""stats, for_object and the named queries."""

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group

from mail_outbox import outbox
from mail_outbox.models import OutboxEntry, Worker
from tests.fakes import BAD_LOGIN, REFUSED
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

SOON = timedelta(hours=1)


def mailer(name: str) -> outbox.MailerStats:
    return next(mailer for mailer in outbox.stats().mailers if mailer.alias == name)


class TestStats:
    def test_an_empty_outbox_has_nothing_due(self):
        stats = outbox.stats()

        assert stats.oldest_due is None
        assert set(stats.states.values()) == {0}

    def test_entries_are_counted_by_state_and_mailer(self, providers):
        providers["bulk"].will(REFUSED)
        outbox.enqueue(a_message(), using="bulk")
        outbox.drain()
        outbox.enqueue(a_message())
        outbox.enqueue(a_message(), send_at=SOON)

        stats = outbox.stats()

        assert (stats.states["failed"], stats.states["queued"], stats.states["scheduled"]) == (1, 1, 1)
        assert mailer("bulk").states == {"failed": 1}

    def test_the_oldest_due_is_the_one_that_has_waited_longest(self):
        age(outbox.enqueue(a_message()), due_at=-SOON)
        age(outbox.enqueue(a_message(), send_at=SOON), due_at=-3 * SOON)
        outbox.enqueue(a_message(), send_at=SOON)

        assert timedelta(minutes=119) < outbox.stats().oldest_due < timedelta(minutes=121)

    def test_a_pause_and_a_trouble_are_told_with_their_reasons(self, providers):
        outbox.pause("bulk", reason="audit")
        providers["default"].will(BAD_LOGIN)
        outbox.enqueue(a_message())
        outbox.drain()

        assert (mailer("bulk").is_paused, mailer("bulk").pause_reason) == (True, "audit")
        assert mailer("default").broken_until is not None
        assert "535" in mailer("default").broken_reason

    def test_mail_for_a_mailer_that_is_gone_is_told(self):
        OutboxEntry.objects.filter(pk=outbox.enqueue(a_message()).pk).update(using="gone")

        assert (mailer("gone").is_known, mailer("gone").states) == (False, {"queued": 1})

    def test_it_can_be_written_as_json(self, providers):
        providers["default"].will(BAD_LOGIN)
        outbox.enqueue(a_message())
        outbox.drain()

        assert json.loads(json.dumps(outbox.stats().as_dict()))["oldest_due_seconds"] >= 0

    def test_a_drain_that_ended_leaves_no_worker_behind(self, provider):
        outbox.drain()

        assert not Worker.objects.exists()


class TestQueries:
    def test_the_mail_about_an_object_comes_newest_first(self):
        group = Group.objects.create(name="g")
        first, second = (outbox.enqueue(a_message(), related=group) for _ in range(2))
        outbox.enqueue(a_message())

        assert list(outbox.for_object(group)) == [second, first]

    def test_what_is_no_object_is_refused(self):
        with pytest.raises(outbox.InvalidOption, match="for_object takes a model instance, not str"):
            outbox.for_object("order 7")

    def test_an_object_that_is_gone_is_no_object(self):
        group = Group.objects.create(name="g")
        entry = outbox.enqueue(a_message(), related=group)
        group.delete()

        assert entry.related_object is None

    def test_an_address_is_found_in_any_spelling_and_role(self):
        entry = outbox.enqueue(a_message(cc=["Boss <BOSS@Example.com>"]))

        assert list(OutboxEntry.objects.to("boss@example.COM")) == [entry]

    def test_a_tag_is_found_exactly(self):
        entry = outbox.enqueue(a_message(), tags=["für", "b"])
        outbox.enqueue(a_message(), tags=["bb"])

        assert list(OutboxEntry.objects.tagged("b")) == [entry]
        assert list(OutboxEntry.objects.tagged("für")) == [entry]
