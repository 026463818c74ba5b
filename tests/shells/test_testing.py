"""The tools for the tests of projects: what they find, what they deliver, and what they say when a test fails."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core import mail
from django.core.mail import EmailMessage, send_mail
from django.db import transaction
from django.test import TestCase

from mail_outbox import conf, outbox, testing
from mail_outbox.core.states import State
from mail_outbox.delivery.scripted import Provider
from mail_outbox.models import Attempt, OutboxEntry
from mail_outbox.testing import assert_enqueued, assert_enqueues, drain_outbox
from mail_outbox.testing.recipes import failed, held, queued, sent
from tests.shells.conftest import LOCMEM, OUTBOX, Configure
from tests.support import a_message

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]
LOADED = bool(entry_points(group="pytest11", name="mail_outbox"))


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Let every mailer be the scripted provider of the tools, not the one of this suite."""
    with testing.scripted_provider() as provider:
        yield provider


def status_of(entry: OutboxEntry) -> dict[str, str]:
    """Return what became of each recipient."""
    return {recipient.address: recipient.status for recipient in entry.recipients.all()}


class TestAssertEnqueued:
    def test_it_finds_entries_and_returns_them(self):
        group = Group.objects.create(name="readers")
        entry = outbox.enqueue(a_message("Your order", cc=["Bob@example.com"]), related=group, tags=["shop"])
        outbox.enqueue(a_message("Other", to=["ann@example.com"]))

        assert assert_enqueued(to="JANE@example.com") == [entry]
        assert assert_enqueued(to=["jane@example.com", "bob@example.com"], subject__contains="order") == [entry]
        assert assert_enqueued(related=group, tag="shop", using="default") == [entry]
        assert len(assert_enqueued(2, state="queued")) == len(assert_enqueued(None)) == 2
        assert assert_enqueued(0, subject="Third") == []

    def test_the_template_is_the_name_given_to_enqueue_template(self, settings, tmp_path):
        for name in ("subject", "body"):
            (tmp_path / f"welcome_{name.replace('body', 'message')}.txt").write_text("Hello")
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
        outbox.enqueue_template("welcome", ["jane@example.com"])

        assert_enqueued(template="welcome")
        assert_enqueued(0, template="goodbye")

    @pytest.mark.parametrize(
        ("count", "expected"),
        [
            (1, "Expected 1 entry with to='bob@example.com' subject__contains='order', found 0. Enqueued: 2\n"),
            (2, "Expected 2 entries with"),
            (None, "Expected at least 1 entry with"),
        ],
    )
    def test_a_failure_lists_what_there_is(self, count, expected):
        outbox.enqueue(a_message("Your order"), tags=["shop"])
        other = outbox.enqueue(a_message("Other", to=["bob@example.com", "ann@example.com"]))

        with pytest.raises(AssertionError) as failure:
            assert_enqueued(count, to="bob@example.com", subject__contains="order")

        said = str(failure.value)
        assert said.startswith(expected)
        assert f"#{other.pk} queued subject='Other' to='bob@example.com, ann@example.com' using='default'" in said
        assert "subject='Your order' to='jane@example.com' using='default' tags=['shop']" in said

    def test_a_failure_lists_no_more_than_can_be_read(self):
        outbox.enqueue_many(a_message() for _ in range(23))

        with pytest.raises(AssertionError, match="Enqueued: 23") as failure:
            assert_enqueued(subject="other")

        assert str(failure.value).count("\n") == 21
        assert str(failure.value).endswith("… and 3 more")

    def test_where_there_is_nothing_it_points_to_the_block(self):
        with pytest.raises(AssertionError, match=r"found 0\. Nothing was enqueued\. .*assert_enqueues"):
            assert_enqueued()

    def test_nothing_at_all_can_be_asserted_too(self):
        assert_enqueued(0)
        outbox.enqueue(a_message())

        with pytest.raises(AssertionError, match="Expected 0 entries, found 1"):
            assert_enqueued(0)

    def test_a_lookup_for_none_is_a_lookup(self):
        outbox.enqueue(a_message(), idempotency_key="1")

        assert_enqueued(0, idempotency_key=None)
        assert_enqueued(idempotency_key="1")


class TestAssertEnqueues:
    def test_what_was_there_before_the_block_does_not_count(self):
        outbox.enqueue(a_message("Before"))

        with assert_enqueues(to="jane@example.com") as found:
            entry = outbox.enqueue(a_message("Inside"))

        assert found == [entry]
        with pytest.raises(AssertionError, match="found 0"), assert_enqueues():
            pass

    def test_an_error_inside_the_block_is_its_own(self):
        with pytest.raises(ZeroDivisionError), assert_enqueues():
            raise ZeroDivisionError


class TestDrainOutbox:
    def test_it_delivers_into_djangos_outbox_in_order_and_in_this_thread(self, mailoutbox, settings):
        seen: list[Any] = []
        settings.MAIL_OUTBOX = {
            **settings.MAIL_OUTBOX,
            # Only a thread inside the test's own transaction can see this group.
            "INTERCEPTORS": [lambda message, entry: seen.append(Group.objects.get().name)],
        }
        Group.objects.create(name="readers")
        outbox.enqueue(a_message("late"), priority=outbox.LOW)
        for subject in ("first", "second"):
            outbox.enqueue(a_message(subject))

        result = drain_outbox()

        assert [message.subject for message in mailoutbox] == ["first", "second", "late"]
        assert (result.sent, result.is_work_left, seen) == (3, False, ["readers"] * 3)

    def test_one_mailer_can_be_named(self, mailoutbox):
        outbox.enqueue(a_message("one"))
        outbox.enqueue(a_message("two"), using="bulk")

        assert drain_outbox(using="bulk").sent == 1
        assert [message.subject for message in mailoutbox] == ["two"]
        with pytest.raises(outbox.UnknownMailer, match="Did you mean 'bulk'"):
            drain_outbox(using="blk")

    def test_what_is_paused_stays(self, mailoutbox):
        outbox.pause()
        entry = outbox.enqueue(a_message())

        result = drain_outbox(until_idle=True)

        entry.refresh_from_db()
        assert (entry.state, result.attempts, result.is_work_left) == (State.QUEUED, 0, True)

    def test_inside_a_transaction_of_the_tests_own_it_refuses(self):
        with transaction.atomic(), pytest.raises(outbox.InTransaction, match="drain_outbox"):
            drain_outbox()

    @pytest.mark.django_db(transaction=True)
    def test_it_works_outside_of_a_transaction_too(self, mailoutbox):
        outbox.enqueue(a_message())

        assert drain_outbox().sent == len(mailoutbox) == 1

    def test_hooks_after_the_commit_may_have_run(self, django_capture_on_commit_callbacks, mailoutbox):
        with django_capture_on_commit_callbacks(execute=True) as callbacks:
            entry = outbox.enqueue(a_message())

        assert (len(callbacks), entry.committed) == (1, True)
        assert drain_outbox().sent == 1


class TestTime:
    def test_mail_for_later_goes_when_its_time_has_come(self, mailoutbox):
        outbox.enqueue(a_message("soon"), send_at=timedelta(days=2))
        outbox.enqueue(a_message("later"), send_at=timedelta(days=4))

        assert drain_outbox().attempts == 0
        assert drain_outbox(at=timedelta(days=3)).sent == 1
        assert [message.subject for message in mailoutbox] == ["soon"]
        assert drain_outbox(at=timedelta(days=3)).attempts == 0
        assert drain_outbox(at=datetime.now(UTC) + timedelta(days=5)).sent == 1

    def test_what_is_recorded_is_of_that_time(self, mailoutbox):
        entry = outbox.enqueue(a_message(), send_at=timedelta(days=2))
        before = OutboxEntry.objects.get()

        drain_outbox(at=timedelta(days=3))

        entry.refresh_from_db()
        then = datetime.now(UTC) + timedelta(days=3)
        assert abs(entry.finished_at - then) < timedelta(minutes=1)
        assert abs(Attempt.objects.get().started_at - then) < timedelta(minutes=1)
        assert (entry.created_at, entry.due_at, entry.date) == (before.created_at, before.due_at, before.date)
        assert parsedate_to_datetime(mailoutbox[0].message()["Date"]) == before.date

    def test_what_is_past_its_expiry_then_is_not_sent(self):
        entry = outbox.enqueue(a_message(), send_at=timedelta(hours=1), expires_at=timedelta(hours=2))

        drain_outbox(at=timedelta(hours=3))

        entry.refresh_from_db()
        assert entry.state == State.EXPIRED

    def test_a_moment_without_a_zone_is_refused(self):
        with pytest.raises(outbox.InvalidOption, match="time zone"):
            drain_outbox(at=datetime(2030, 1, 1))

    def test_until_idle_retries_are_followed(self, provider, mailoutbox):
        provider.fails(503, times=3)
        entry = outbox.enqueue(a_message())

        result = drain_outbox(until_idle=True)

        entry.refresh_from_db()
        assert (entry.state, entry.attempts, len(mailoutbox)) == (State.SENT, 4, 1)
        assert (result.transient, result.sent, result.is_work_left) == (3, 1, False)

    def test_until_idle_attempts_are_used_up(self, provider):
        provider.fails(503, times=None)
        entry = outbox.enqueue(a_message())

        drain_outbox(until_idle=True)

        entry.refresh_from_db()
        assert entry.state == State.FAILED
        assert entry.state_reason in {"attempts used up", "too old"}
        assert provider.attempts == entry.attempts > 10

    def test_until_idle_a_mailer_that_rests_is_waited_for(self, provider):
        provider.fails(429, retry_after=120).fails(401)
        outbox.enqueue_many(a_message(str(number)) for number in range(3))

        result = drain_outbox(until_idle=True)

        assert (result.throttled, result.mailer, result.sent) == (1, 1, 3)

    def test_what_nobody_knows_the_end_of_is_held_after_two_repetitions(self, provider):
        provider.times_out(times=None)
        entry = outbox.enqueue(a_message(), send_at=timedelta(days=1))

        drain_outbox(until_idle=True)

        entry.refresh_from_db()
        assert (entry.state, entry.state_reason, entry.attempts) == (State.HELD, "ambiguous", 3)

    def test_a_provider_that_never_lets_anything_through_is_an_error(self, provider, monkeypatch):
        monkeypatch.setattr("mail_outbox.testing.draining.MOST_ROUNDS", 5)
        provider.fails(401, times=None)
        outbox.enqueue(a_message())

        with pytest.raises(AssertionError, match=r"not idle after 5 rounds: entry \d+ queued \(mailer 401\)"):
            drain_outbox(until_idle=True)


class TestProvider:
    @pytest.mark.parametrize(
        ("status", "state", "kind"),
        [
            (503, State.SCHEDULED, "transient"),
            (400, State.FAILED, "permanent"),
            (401, State.QUEUED, "mailer"),
            (429, State.QUEUED, "throttled"),
            (502, State.SCHEDULED, "ambiguous"),
        ],
    )
    def test_a_status_means_what_it_means_everywhere(self, provider, status, state, kind):
        provider.fails(status)
        entry = outbox.enqueue(a_message())

        drain_outbox()

        entry.refresh_from_db()
        assert (entry.state, entry.outcome_kind, entry.outcome_code) == (state, kind, str(status))

    def test_no_answer_is_ambiguous(self, provider, mailoutbox):
        provider.times_out()
        entry = outbox.enqueue(a_message(), on_ambiguous="hold")

        drain_outbox()

        entry.refresh_from_db()
        assert (entry.state, entry.outcome_code, mailoutbox) == (State.HELD, "timeout", [])

    def test_some_recipients_can_be_rejected(self, provider, mailoutbox):
        provider.rejects("Bob <BOB@example.com>")
        both = outbox.enqueue(a_message("both", cc=["bob@example.com"]))
        alone = outbox.enqueue(a_message("alone", to=["bob@example.com"]))

        drain_outbox()

        for entry in (both, alone):
            entry.refresh_from_db()
        assert status_of(both) == {"jane@example.com": "accepted", "bob@example.com": "refused"}
        assert (both.state, alone.state) == (State.SENT, State.FAILED)
        assert [message.subject for message in mailoutbox] == ["both"]

    def test_after_the_script_it_accepts_and_keeps_what_it_took(self, provider, mailoutbox):
        provider.fails(503, times=1)
        message = a_message("Hello", attachments=[("a.pdf", b"%PDF", "application/pdf")])
        entry = outbox.enqueue(message)

        drain_outbox(until_idle=True)

        entry.refresh_from_db()
        assert (provider.attempts, provider.accepted) == (2, mailoutbox)
        assert mailoutbox[0].attachments == message.attachments
        assert mailoutbox[0].message()["Message-ID"] == entry.message_id
        assert entry.provider_message_id == "scripted-2"

    def test_the_engine_with_its_threads_can_use_it_too(self, provider):
        provider.fails(400)
        outbox.enqueue_many(a_message() for _ in range(5))

        result = outbox.drain()

        assert (result.permanent, result.sent) == (1, 4)

    def test_afterwards_the_mailers_are_what_they_were(self):
        before = conf.known_mailers()

        with testing.scripted_provider():
            assert conf.known_mailers() != before

        assert conf.known_mailers() == before


class TestOutboxBackend:
    def test_djangos_functions_enqueue(self, mailoutbox):
        with testing.outbox_backend():
            send_mail("Hello", "Text", None, ["jane@example.com"])
            assert mailoutbox == []
            assert_enqueued(to="jane@example.com")
            drain_outbox()
        send_mail("Directly", "Text", None, ["jane@example.com"])

        assert [message.subject for message in mailoutbox] == ["Hello", "Directly"]
        assert_enqueued(1)

    def test_it_goes_with_a_scripted_provider_in_either_order(self, mailoutbox):
        for first, second in [
            (testing.outbox_backend, testing.scripted_provider),
            (testing.scripted_provider, testing.outbox_backend),
        ]:
            with first() as one, second() as other:
                provider = one if isinstance(one, Provider) else other
                provider.fails(503)
                send_mail("Hello", "Text", None, ["jane@example.com"])
                assert drain_outbox(until_idle=True).transient == 1

        assert len(mailoutbox) == 2

    @pytest.mark.skipif(not hasattr(mail, "mailers"), reason="before 6.1 there is one backend for all")
    def test_what_is_the_outbox_in_production_is_the_outbox_again(self, monkeypatch: pytest.MonkeyPatch):
        production = {"default": LOCMEM, "news": {**OUTBOX, "OPTIONS": {"using": "bulk"}}, "bulk": LOCMEM}
        state = sys.modules["django.test.utils"]._TestState.saved_data  # type: ignore[attr-defined]
        monkeypatch.setattr(state, "mailers", production)

        with testing.outbox_backend():
            send_mail("Hello", "Text", None, ["jane@example.com"], using="news")
            assert send_mail("Directly", "Text", None, ["jane@example.com"], using="default") == 1

        assert_enqueued(1, using="bulk")

    def test_a_project_with_one_mailer_gets_another_to_deliver(self, configure: Configure, mailoutbox):
        configure({"default": LOCMEM})

        with testing.outbox_backend():
            send_mail("Hello", "Text", None, ["jane@example.com"])
            drain_outbox()

        assert len(mailoutbox) == 1
        assert_enqueued(1, state="sent")

    @pytest.mark.skipif(hasattr(mail, "mailers"), reason="since 6.1 EMAIL_BACKEND is deprecated")
    def test_a_project_without_mailers_gets_one(self, settings, mailoutbox):
        settings.MAIL_OUTBOX = {}

        with testing.outbox_backend():
            send_mail("Hello", "Text", None, ["jane@example.com"])
            drain_outbox()

        assert len(mailoutbox) == 1


class TestUnittest(testing.OutboxTestMixin, TestCase):
    def test_the_assertions_are_methods(self):
        with self.captureOnCommitCallbacks(execute=True), self.assertEnqueues(to="jane@example.com"):
            outbox.enqueue(a_message())

        self.assertEnqueued(subject="Hello")
        self.drain_outbox()
        self.assertEqual(len(mail.outbox), 1)  # noqa: PT009


class TestRecipes:
    @pytest.mark.parametrize(
        ("recipe", "state", "status", "attempts"),
        [
            (queued, State.QUEUED, "open", 0),
            (sent, State.SENT, "accepted", 1),
            (failed, State.FAILED, "refused", 1),
            (held, State.HELD, "open", 1),
        ],
        ids=["queued", "sent", "failed", "held"],
    )
    def test_each_is_what_its_name_says(self, recipe, state, status, attempts):
        entry = recipe.make()

        entry.refresh_from_db()
        assert (entry.state, status_of(entry)) == (state, {"jane@example.com": status})
        assert entry.attempt_set.count() == attempts
        assert (entry.subject, entry.message().body) == ("Hello", "Text")

    def test_attributes_and_a_message_can_be_given(self):
        message = EmailMessage("Order", "Text", "shop@example.com", ["bob@example.com"])
        message.attach("a.pdf", b"%PDF", "application/pdf")

        entries = failed.make(_quantity=3, message=message, using="bulk", tags=["shop"])

        assert len({entry.message_id for entry in entries}) == len({entry.uuid for entry in entries}) == 3
        assert {(entry.subject, entry.using, tuple(entry.tags)) for entry in entries} == {("Order", "bulk", ("shop",))}
        assert entries[0].message().attachments[0].content == b"%PDF"

    def test_the_verbs_work_on_what_they_make(self, mailoutbox):
        queued.make()
        assert outbox.retry(failed.make(), held.make()) == 2

        assert drain_outbox().sent == 3


def test_the_plugin_loads_without_django():
    code = "import mail_outbox.testing.plugin, sys; print(sorted(m for m in sys.modules if m in ('django', 'anymail')))"

    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


def test_the_tools_are_those_that_are_listed():
    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        testing.nothing  # noqa: B018


PROJECT = """
    from django.core.mail import send_mail
    from mail_outbox import outbox
    from django.core.mail import EmailMessage

    def message(subject="Hello"):
        return EmailMessage(subject, "Text", "shop@example.com", ["jane@example.com"])

    def test_entries(outbox_entries, drain_outbox, mailoutbox):
        entry = outbox.enqueue(message())
        assert outbox_entries.get() == entry
        drain_outbox()
        assert [sent.subject for sent in mailoutbox] == ["Hello"]
        assert outbox_entries.get().state == "sent"

    def test_drop_in(outbox_backend, assert_enqueued, assert_enqueues):
        with assert_enqueues(to="jane@example.com"):
            send_mail("Hello", "Text", None, ["jane@example.com"])
        assert_enqueued(subject__contains="Hell")

    def test_provider(provider, drain_outbox):
        provider.fails(503, times=2)
        outbox.enqueue(message())
        assert drain_outbox(until_idle=True).transient == 2

    def test_failure(assert_enqueued, db):
        outbox.enqueue(message("What there is"))
        assert_enqueued(subject="What is wanted")
"""


def test_the_fixtures_work_in_a_project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    pytester.makepyfile(PROJECT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.settings")
    monkeypatch.setenv("MAIL_OUTBOX_TEST_DB", "sqlite")
    monkeypatch.setenv("MAIL_OUTBOX_TEST_RUN", uuid.uuid4().hex)  # a database of its own
    monkeypatch.setitem(os.environ, "PYTEST_ADDOPTS", "")

    result = pytester.runpytest_subprocess(
        *([] if LOADED else ["-p", "mail_outbox.testing.plugin"]), "-W", "error", "-p", "no:cacheprovider"
    )

    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*Expected 1 entry with subject='What is wanted', found 0. Enqueued: 1*"])
    result.stdout.fnmatch_lines(["*queued subject='What there is' to='jane@example.com'*"])
