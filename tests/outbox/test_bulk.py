"""One verb on many entries: what can be done is done, what cannot is told."""

from datetime import timedelta

import pytest

from mail_outbox import outbox
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry
from mail_outbox.outbox import bulk
from tests.fakes import REFUSED
from tests.support import a_message, age

pytestmark = pytest.mark.django_db

SOON = timedelta(hours=1)


def all_keys() -> list[int]:
    return list(OutboxEntry.objects.order_by("pk").values_list("pk", flat=True))


def act(verb, **options):
    return list(bulk.act_on_many(verb, all_keys(), **options))


def test_each_chunk_is_reported_and_the_reports_add_up(provider, monkeypatch):
    monkeypatch.setattr(bulk, "CHUNK", 3)
    outbox.enqueue_many([a_message()] * 7)

    reports = act("cancel", reason="over")

    assert [len(report.done) for report in reports] == [3, 3, 1]
    assert set(OutboxEntry.objects.values_list("state", "state_reason")) == {(State.CANCELLED, "over")}


def test_what_cannot_be_done_is_skipped_for_a_reason(provider):
    provider.will(REFUSED)
    outbox.enqueue_many([a_message()] * 2)
    outbox.drain()
    waiting = outbox.enqueue(a_message())

    [report] = bulk.act_on_many("cancel", [*all_keys(), 10**9])

    assert [entry.pk for entry in report.done] == [waiting.pk]
    assert report.skipped == {"failed": 1, "sent": 1, "no longer there": 1}


def test_a_retry_skips_what_has_expired_unless_it_is_given_a_new_expiry(provider):
    provider.will(REFUSED)
    entry = outbox.enqueue(a_message(), expires_at=SOON)
    outbox.drain()
    age(entry, expires_at=-2 * SOON)

    [report] = act("retry")
    assert (report.done, report.skipped) == ((), {"past their expiry, and no new one was given": 1})

    [report] = act("retry", expires_at=SOON)
    assert len(report.done) == 1


def test_a_new_time_behind_the_expiry_and_the_same_mailer_are_skipped(providers):
    outbox.enqueue(a_message(), expires_at=SOON)
    outbox.enqueue(a_message(), using="bulk")

    [report] = act("reschedule", send_at=2 * SOON)
    assert (len(report.done), report.skipped) == (1, {"past their expiry by then": 1})
    [report] = act("change_mailer", using="bulk")
    assert (len(report.done), report.skipped) == (1, {"with mailer 'bulk' already": 1})


def test_an_unknown_verb_is_refused():
    with pytest.raises(outbox.InvalidOption, match="Did you mean 'cancel'"):
        list(bulk.act_on_many("cancl", [1]))
