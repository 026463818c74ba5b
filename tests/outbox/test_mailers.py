"""pause and resume."""

from datetime import timedelta

import pytest

from mail_outbox import outbox
from mail_outbox.models import MailerState, OutboxEntry
from tests.fakes import BAD_LOGIN
from tests.support import a_message

pytestmark = pytest.mark.django_db


def test_a_paused_mailer_sends_nothing_and_the_others_go_on(providers):
    outbox.pause("bulk", reason="audit")
    for alias in ("default", "bulk"):
        outbox.enqueue(a_message(alias), using=alias)

    result = outbox.drain()

    assert (providers["default"].subjects, providers["bulk"].subjects) == (["default"], [])
    assert not result.is_work_left


def test_a_resumed_mailer_sends_what_has_waited(providers):
    outbox.pause("bulk")
    outbox.enqueue(a_message("x"), using="bulk")
    outbox.drain()

    outbox.resume("bulk")
    outbox.drain()

    assert providers["bulk"].subjects == ["x"]


def test_all_mailers_can_be_paused_at_once(providers):
    outbox.pause()
    outbox.enqueue(a_message())
    outbox.drain()
    assert providers["default"].accepted == []

    outbox.resume()
    outbox.drain()
    assert len(providers["default"].accepted) == 1


def test_a_pause_ends_by_itself_at_its_moment(provider):
    outbox.pause("default", until=timedelta(hours=1))
    outbox.enqueue(a_message())
    outbox.drain()
    assert provider.accepted == []

    MailerState.objects.update(paused_until="2020-01-01T00:00:00Z")
    outbox.drain()

    assert len(provider.accepted) == 1


def test_a_setting_pauses_everything(provider, settings):
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "PAUSED": True}
    outbox.enqueue(a_message())

    outbox.drain()

    assert provider.accepted == []


def test_resuming_forgets_the_troubles_too(provider):
    provider.will(BAD_LOGIN)
    outbox.enqueue(a_message())
    outbox.drain()
    assert MailerState.objects.get().strikes == 1

    outbox.resume("default")
    outbox.drain()

    assert OutboxEntry.objects.get().state == "sent"


def test_a_persons_pause_survives_a_success_and_a_trouble(provider):
    provider.will(BAD_LOGIN)
    outbox.enqueue(a_message())
    outbox.drain()
    outbox.pause("default", reason="mine")
    MailerState.objects.update(broken_until="2020-01-01T00:00:00Z")

    outbox.drain()

    assert provider.accepted == []
    assert MailerState.objects.get().is_paused
