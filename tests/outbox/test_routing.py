"""using= may name a route: what is written, and who understands the name."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.mail import EmailMessage

from mail_outbox import outbox
from mail_outbox.backends import OutboxBackend
from mail_outbox.core.errors import OutboxPaused, UnknownMailer
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, OutboxEntry
from tests.fakes import BAD_LOGIN, REFUSED, Provider
from tests.support import a_message, mailers, scripted

pytestmark = pytest.mark.django_db

OUTBOX = {"BACKEND": "mail_outbox.backends.OutboxBackend"}
LOCMEM = {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}
ROUTES: dict[str, Any] = {
    "main": ["mailgun", "ses"],
    "bulk": {"ses": 3, "mailgun": 1},
    "smart": f"{__name__}.by_subject",
}


def by_subject(message: EmailMessage) -> str:
    """Choose as the subject says; a project's own callable."""
    return message.subject


@pytest.fixture(autouse=True)
def providers() -> Iterator[dict[str, Provider]]:
    """Let two mailers obey scripts, with three routes over them."""
    with scripted("mailgun", "ses", "other", ROUTES=ROUTES) as providers:
        yield providers


def way_of(entry: OutboxEntry) -> tuple[str, str]:
    """Return who sends it, and by which route."""
    entry.refresh_from_db()
    return entry.using, entry.route


class TestEnqueue:
    def test_the_first_mailer_of_a_list_has_the_first_try(self):
        assert way_of(outbox.enqueue(a_message(), using="main")) == ("mailgun", "main")

    def test_weights_spread_the_messages_of_one_call(self):
        entries = outbox.enqueue_many((a_message() for _ in range(400)), using="bulk")

        chosen = Counter(way_of(entry) for entry in entries)
        assert chosen.keys() == {("ses", "bulk"), ("mailgun", "bulk")}
        # Six standard deviations: once in a hundred million runs.
        assert 248 < chosen["ses", "bulk"] < 352

    def test_a_mailer_stands_for_itself(self):
        assert way_of(outbox.enqueue(a_message(), using="ses")) == ("ses", "")

    def test_the_default_may_be_a_route(self, settings: Any):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "USING": "main"}

        assert way_of(outbox.enqueue(a_message())) == ("mailgun", "main")

    def test_the_drop_in_may_name_a_route(self):
        OutboxBackend(using="main").send_messages([a_message()])

        assert way_of(OutboxEntry.objects.get()) == ("mailgun", "main")

    def test_a_mailer_of_the_route_that_is_gone_is_left_out(self, settings: Any):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ROUTES": {"main": ["gone", "ses"], "lost": ["gone"]}}

        assert way_of(outbox.enqueue(a_message(), using="main")) == ("ses", "main")
        with pytest.raises(UnknownMailer, match="None of the mailers of route 'lost' is configured"):
            outbox.enqueue(a_message(), using="lost")

    def test_replacing_an_entry_replaces_its_way(self):
        outbox.enqueue(a_message("first"), using="ses", idempotency_key="k")

        entry = outbox.enqueue(a_message("second"), using="main", idempotency_key="k", on_conflict="replace")

        assert way_of(entry) == ("mailgun", "main")


class TestCallables:
    @pytest.mark.parametrize(
        ("answer", "way"), [("ses", ("ses", "")), ("main", ("mailgun", "main"))], ids=["a mailer", "a route"]
    )
    def test_it_is_given_the_message_and_names_who_sends(self, answer: str, way: tuple[str, str]):
        assert way_of(outbox.enqueue(a_message(answer), using="smart")) == way

    def test_it_is_asked_for_every_message(self):
        entries = outbox.enqueue_many(map(a_message, ("ses", "main", "mailgun")), using="smart")

        assert [way_of(entry)[0] for entry in entries] == ["ses", "mailgun", "mailgun"]

    def test_it_need_not_be_a_dotted_name(self, settings: Any):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ROUTES": {"smart": by_subject}}

        assert way_of(outbox.enqueue(a_message("ses"), using="smart")) == ("ses", "")

    def test_what_it_raises_is_the_callers(self, settings: Any):
        def stumble(message: EmailMessage) -> str:
            raise LookupError("no such tenant")

        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ROUTES": {"smart": stumble}}

        with pytest.raises(LookupError, match="no such tenant"):
            outbox.enqueue(a_message(), using="smart")
        assert not OutboxEntry.objects.exists()

    @pytest.mark.parametrize(
        ("answer", "complaint"),
        [
            ("mian", "Did you mean 'main'?"),
            ("smart", "another callable"),
            (None, "answered None"),
            ("", "No mailer ''"),
        ],
    )
    def test_an_answer_that_means_nothing_is_an_unknown_mailer(self, settings: Any, answer: Any, complaint: str):
        routes = {**ROUTES, "smart": lambda message: answer}
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ROUTES": routes}

        with pytest.raises(UnknownMailer) as caught:
            outbox.enqueue(a_message(), using="smart")

        assert complaint in str(caught.value)
        assert not OutboxEntry.objects.exists()


class TestNames:
    def test_an_unknown_name_is_answered_with_mailers_and_routes(self):
        with pytest.raises(UnknownMailer) as caught:
            outbox.enqueue(a_message(), using="mian")

        assert "Did you mean 'main'? Known: bulk, mailgun, main, other, ses, smart." in str(caught.value)

    def test_the_outbox_itself_is_no_way_out(self):
        with mailers({"default": OUTBOX, "real": LOCMEM}), pytest.raises(UnknownMailer, match="the outbox itself"):
            outbox.enqueue(a_message(), using="default")

    @pytest.mark.parametrize("verb", [outbox.pause, outbox.resume, lambda name: outbox.drain(using=name)])
    @pytest.mark.parametrize(
        ("name", "complaint"),
        [("main", "is a route, which is no mailer.*mailgun, ses"), ("smart", "is a route"), ("mian", "No mailer")],
    )
    def test_what_is_done_to_mailers_takes_no_route(self, verb: Any, name: str, complaint: str):
        with pytest.raises(UnknownMailer, match=complaint):
            verb(name)


class TestAgain:
    def test_a_resend_takes_the_route_again(self, providers: dict[str, Provider]):
        providers["mailgun"].will(BAD_LOGIN)
        entry = outbox.enqueue(a_message(), using="main")
        outbox.drain()
        assert way_of(entry) == ("ses", "main")

        assert way_of(outbox.resend(entry)) == ("mailgun", "main")

    def test_a_resend_goes_where_it_is_told(self):
        entry = outbox.enqueue(a_message(), using="main")
        outbox.cancel(entry)

        assert way_of(outbox.resend(entry, using="other")) == ("other", "")

    def test_a_resend_keeps_the_mailer_where_the_route_is_gone(self, settings: Any):
        entry = outbox.enqueue(a_message(), using="main")
        outbox.cancel(entry)
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ROUTES": {}}

        assert way_of(outbox.resend(entry)) == ("mailgun", "")

    def test_a_retry_stays_with_its_mailer_and_keeps_its_route(self, providers: dict[str, Provider]):
        providers["mailgun"].will(REFUSED)
        entry = outbox.enqueue(a_message(), using="main")
        outbox.drain()

        assert outbox.retry(entry) == 1

        assert way_of(entry) == ("mailgun", "main")


class TestSendNow:
    def test_it_takes_a_route(self, providers: dict[str, Provider]):
        entry = outbox.send_now(a_message("x"), using="main")

        assert (entry.state, *way_of(entry)) == (State.SENT, "mailgun", "main")

    def test_it_passes_by_who_is_paused(self, providers: dict[str, Provider]):
        outbox.pause("mailgun")

        entry = outbox.send_now(a_message("x"), using="main")

        assert providers["ses"].subjects == ["x"]
        assert (entry.state, *way_of(entry)) == (State.SENT, "ses", "main")

    def test_it_raises_where_all_are_paused(self):
        outbox.pause("mailgun")
        outbox.pause("ses")

        with pytest.raises(OutboxPaused, match="Every mailer of route 'main'"):
            outbox.send_now(a_message(), using="main")
        assert not OutboxEntry.objects.exists()

    def test_what_one_mailer_could_not_do_is_left_to_the_next(self, providers: dict[str, Provider]):
        providers["mailgun"].will(BAD_LOGIN)

        entry = outbox.send_now(a_message("x"), using="main")
        assert (entry.state, *way_of(entry)) == (State.QUEUED, "ses", "main")

        outbox.drain()
        assert providers["ses"].subjects == ["x"]
        assert list(Attempt.objects.order_by("pk").values_list("using", flat=True)) == ["mailgun", "ses"]
