"""The engine with routes: who takes over from whom, when, and what is left to wait."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from smtplib import SMTPConnectError, SMTPRecipientsRefused
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from mail_outbox import outbox
from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from mail_outbox.drain import Engine
from mail_outbox.models import Attempt, MailerState, OutboxEntry
from tests.fakes import BAD_LOGIN, NOBODY_KNOWS, REFUSED, SLOW_DOWN, TRY_LATER, Provider
from tests.support import a_message, age, scripted

pytestmark = pytest.mark.django_db

PAST = "2020-01-01T00:00:00Z"
NOT_NOW = SMTPConnectError(450, b"4.3.2 not now")
GREYLISTED = SMTPRecipientsRefused({"jane@example.com": (450, b"4.2.0 greylisted")})
NO_SUCH_USER = SMTPRecipientsRefused({"jane@example.com": (550, b"5.1.1 no such user")})


@contextmanager
def routed(*mailers: str, **options: Any) -> Iterator[dict[str, Provider]]:
    """Configure a route `main` over these mailers, in order."""
    with scripted(*mailers, **{"ROUTES": {"main": list(mailers)}, **options}) as providers:
        yield providers


@pytest.fixture
def providers() -> Iterator[dict[str, Provider]]:
    """Let three mailers of a route obey scripts."""
    with routed("a", "b", "c") as providers:
        yield providers


def attempts() -> list[tuple[str, str]]:
    """List the mailer and the kind of each attempt, in order."""
    return list(Attempt.objects.order_by("pk").values_list("using", "kind"))


class TestTrouble:
    @pytest.mark.parametrize("trouble", [BAD_LOGIN, SLOW_DOWN, ConnectionRefusedError(111, "refused")])
    def test_all_mail_leaves_through_the_second_at_no_cost(self, providers, trouble):
        providers["a"].will_always(trouble)
        outbox.enqueue_many((a_message(str(number)) for number in range(50)), using="main")

        result = outbox.drain()

        assert (result.sent, len(providers["b"].accepted), len(providers["c"].accepted)) == (50, 50, 0)
        assert sorted(providers["b"].subjects, key=int) == [str(number) for number in range(50)]
        assert set(OutboxEntry.objects.values_list("state", "using", "attempts")) == {(State.SENT, "b", 1)}
        # One sender tried the first, and then it was at rest.
        assert Attempt.objects.filter(using="a").count() == 1
        assert Attempt.objects.filter(using="b", kind=Kind.SENT).count() == 50

    def test_the_others_of_the_first_mailer_wait_for_it(self, providers):
        providers["a"].will_always(BAD_LOGIN)
        outbox.enqueue_many((a_message("routed") for _ in range(20)), using="main")
        outbox.enqueue_many((a_message("direct") for _ in range(20)), using="a")

        result = outbox.drain()

        assert providers["b"].subjects == ["routed"] * 20
        assert set(OutboxEntry.objects.filter(route="").values_list("state", "using")) == {(State.QUEUED, "a")}
        assert not result.is_work_left

    def test_where_nobody_is_fit_it_waits_for_the_first_to_come_back(self, providers):
        for provider in providers.values():
            provider.will_always(BAD_LOGIN)
        outbox.enqueue_many((a_message(str(number)) for number in range(30)), using="main")

        result = outbox.drain()

        assert (result.sent, result.is_work_left) == (0, False)
        assert set(OutboxEntry.objects.values_list("state", "attempts")) == {(State.QUEUED, 0)}
        assert MailerState.objects.filter(strikes=1).count() == 3

        providers["c"].will_always(None)
        MailerState.objects.update(broken_until=PAST)
        outbox.drain()

        assert len(providers["c"].accepted) == 30

    def test_the_place_in_line_is_kept(self):
        with routed("a", "b", MAILER_OPTIONS={"b": {"concurrency": 1}}) as providers:
            providers["a"].will_always(BAD_LOGIN)
            outbox.enqueue_many((a_message(f"normal {number}") for number in range(20)), using="main")
            outbox.enqueue(a_message("high"), using="main", priority=outbox.HIGH)
            outbox.pause("b")
            outbox.drain()
            outbox.resume("b")

            outbox.drain()

            assert providers["b"].subjects == ["high", *(f"normal {number}" for number in range(20))]

    def test_a_spread_route_leaves_its_mail_to_the_others(self):
        with scripted("a", "b", "c", ROUTES={"main": {"a": 1, "b": 1, "c": 1}}) as providers:
            providers["a"].will_always(BAD_LOGIN)
            outbox.enqueue_many((a_message() for _ in range(120)), using="main")

            outbox.drain()

            assert set(OutboxEntry.objects.values_list("state", flat=True)) == {State.SENT}
            assert len(providers["b"].accepted) + len(providers["c"].accepted) == 120
            assert min(len(providers["b"].accepted), len(providers["c"].accepted)) > 20


class TestProvidersOwnTrouble:
    def test_every_mailer_has_a_try_before_the_wait(self, providers):
        for provider in providers.values():
            provider.will(NOT_NOW)
        entry = outbox.enqueue(a_message(), using="main")

        outbox.drain()

        entry.refresh_from_db()
        assert attempts() == [("a", Kind.TRANSIENT), ("b", Kind.TRANSIENT), ("c", Kind.TRANSIENT)]
        assert (entry.state, entry.using, entry.attempts) == (State.SCHEDULED, "a", 3)

    def test_after_the_wait_it_begins_with_the_first_again(self, providers):
        for provider in providers.values():
            provider.will(NOT_NOW, NOT_NOW)
        entry = outbox.enqueue(a_message(), using="main")
        outbox.drain()
        # Only what was tried since it was due counts as tried.
        age(entry, first_due_at=timedelta(minutes=-5))
        Attempt.objects.update(started_at=entry.first_due_at + timedelta(minutes=1))
        OutboxEntry.objects.update(due_at=entry.first_due_at + timedelta(minutes=2))

        outbox.drain()

        assert [using for using, _ in attempts()] == ["a", "b", "c"] * 2
        entry.refresh_from_db()
        assert (entry.state, entry.attempts) == (State.SCHEDULED, 6)

    def test_the_second_has_it_at_once(self, providers):
        providers["a"].will(NOT_NOW)
        entry = outbox.enqueue(a_message(), using="main")

        result = outbox.drain()

        entry.refresh_from_db()
        assert (result.sent, entry.state, entry.using, entry.attempts) == (1, State.SENT, "b", 2)

    def test_the_attempts_used_up_end_it_whoever_is_left(self, providers):
        for provider in providers.values():
            provider.will_always(NOT_NOW)
        entry = outbox.enqueue(a_message(), using="main", max_attempts=2)

        outbox.drain()

        entry.refresh_from_db()
        assert (entry.state, entry.state_reason) == (State.FAILED, "attempts used up")
        assert [using for using, _ in attempts()] == ["a", "b"]


class TestWhatNeverMovesOn:
    @pytest.mark.parametrize(
        ("action", "state"),
        [
            pytest.param(NOBODY_KNOWS, State.SCHEDULED, id="ambiguous"),
            pytest.param(REFUSED, State.FAILED, id="refused"),
            pytest.param(NO_SUCH_USER, State.FAILED, id="a recipient refused"),
            pytest.param(GREYLISTED, State.SCHEDULED, id="a recipient greylisted"),
            pytest.param(TRY_LATER, State.SCHEDULED, id="refused for now"),
            pytest.param(lambda message: 0, State.CANCELLED, id="cancelled"),
        ],
    )
    def test_its_next_attempt_is_the_same_mailers(self, providers, action, state):
        providers["a"].will(action)
        entry = outbox.enqueue(a_message(), using="main")

        outbox.drain()

        entry.refresh_from_db()
        assert (entry.state, entry.using) == (state, "a")
        assert [using for using, _ in attempts()] == ["a"]

        OutboxEntry.objects.filter(state=State.SCHEDULED).update(due_at=PAST)
        outbox.drain()

        assert {using for using, _ in attempts()} == {"a"}
        assert not providers["b"].accepted

    def test_what_may_have_arrived_waits_for_its_mailer_however_long_that_rests(self, providers):
        providers["a"].will(NOBODY_KNOWS)
        entry = outbox.enqueue(a_message(), using="main")
        outbox.drain()
        outbox.pause("a")
        OutboxEntry.objects.update(due_at=PAST)
        outbox.enqueue(a_message("fresh"), using="main")

        outbox.drain()

        assert providers["b"].subjects == ["fresh"]
        entry.refresh_from_db()
        assert (entry.state, entry.using) == (State.QUEUED, "a")

        outbox.resume("a")
        providers["a"].will(BAD_LOGIN)
        outbox.drain()

        entry.refresh_from_db()
        assert (entry.state, entry.using) == (State.QUEUED, "a")


class TestWaiting:
    def test_what_waits_for_a_paused_mailer_leaves_through_the_next(self, providers):
        outbox.pause("a")
        outbox.enqueue_many((a_message() for _ in range(30)), using="main")

        outbox.drain()

        assert len(providers["b"].accepted) == 30

    def test_it_passes_by_whoever_rests_too(self, providers):
        outbox.pause("a")
        outbox.pause("b")
        outbox.enqueue(a_message(), using="main")

        outbox.drain()

        assert len(providers["c"].accepted) == 1

    def test_while_everything_is_paused_nothing_moves(self, providers):
        outbox.enqueue(a_message(), using="main")
        outbox.pause()

        outbox.drain()

        assert OutboxEntry.objects.get().using == "a"

    def test_more_than_a_batch_moves_in_one_drain(self, providers):
        outbox.enqueue_many((a_message() for _ in range(2100)), using="main")
        outbox.pause("a")

        assert outbox.drain().sent == 2100

    def test_new_mail_probes_the_first_again(self, providers):
        providers["a"].will_always(BAD_LOGIN)
        outbox.enqueue_many((a_message() for _ in range(20)), using="main")
        outbox.drain()
        providers["a"].will_always(None)
        MailerState.objects.update(broken_until=PAST)

        outbox.enqueue(a_message("probe"), using="main")
        outbox.drain()

        assert providers["a"].subjects == ["probe"]
        assert MailerState.objects.get(alias="a").strikes == 0

    def test_while_a_probe_is_under_way_the_others_do_not_wait_for_it(self, providers):
        providers["a"].will(BAD_LOGIN)
        outbox.enqueue(a_message(), using="a")
        outbox.drain()
        # As when another worker has taken the probe, and its end is not in sight.
        MailerState.objects.update(broken_until="2100-01-01T00:00:00Z")

        outbox.enqueue(a_message("new"), using="main")
        outbox.drain()

        assert providers["b"].subjects == ["new"]

    def test_where_the_only_other_one_has_rested_long_enough_it_is_tried_with_one_message(self, providers):
        providers["b"].will(BAD_LOGIN)
        MailerState.objects.create(alias="b", strikes=1, broken_until=PAST)
        MailerState.objects.create(alias="c", is_paused=True)
        outbox.pause("a")
        outbox.enqueue_many((a_message() for _ in range(20)), using="main")

        outbox.drain()

        assert attempts() == [("b", Kind.MAILER)]
        MailerState.objects.filter(alias="b").update(broken_until=PAST)
        outbox.drain()

        assert len(providers["b"].accepted) == 20

    def test_a_limited_drain_says_that_more_can_be_done(self, providers):
        engine = Engine("default")
        providers["a"].will(BAD_LOGIN)
        outbox.enqueue(a_message("direct"), using="a", priority=outbox.HIGH)
        outbox.enqueue(a_message("routed"), using="main")
        try:
            result = engine.run(limit=1)
        finally:
            engine.stop()

        assert (result.mailer, result.is_work_left) == (1, True)
        assert OutboxEntry.objects.get(route="main").using == "b"

    def test_no_look_is_taken_while_all_is_well(self, providers):
        outbox.enqueue_many((a_message() for _ in range(20)), using="main")

        with CaptureQueriesContext(connection) as queries:
            outbox.drain()

        looks = [query["sql"] for query in queries if "is_pinned" in query["sql"].partition("WHERE")[2]]
        assert looks == []


class TestChangedSettings:
    def test_an_entry_whose_route_is_gone_stays_with_its_mailer(self, providers, settings):
        providers["a"].will_always(BAD_LOGIN)
        outbox.enqueue(a_message(), using="main")
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ROUTES": {}}

        outbox.drain()

        assert set(OutboxEntry.objects.values_list("state", "using", "route")) == {(State.QUEUED, "a", "main")}

    def test_an_entry_whose_mailer_has_left_the_route_finds_the_others(self, providers, settings):
        providers["a"].will(BAD_LOGIN)
        outbox.enqueue(a_message(), using="main")
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ROUTES": {"main": ["b", "c"]}}

        outbox.drain()

        assert len(providers["b"].accepted) == 1
