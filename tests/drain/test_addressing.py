"""Whom a claimed message goes to: the list is asked once more, right before it is sent, and only those it names are left out."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from mail_outbox import outbox, transitions
from mail_outbox.core.outcomes import Sent
from mail_outbox.core.retry import Decision
from mail_outbox.core.states import State
from mail_outbox.drain.reading import read_jobs
from mail_outbox.models import Attempt, EntryContent, MailerState, OutboxEntry
from tests.delivery.esps import OPTIONS, POSTMARK_OK
from tests.drain.test_guard import drain_again, rows, smtp
from tests.fakes import REFUSED, TRY_LATER, Provider
from tests.faults.http_server import Answer, HTTPFaultServer
from tests.faults.smtp_server import SMTPFaultServer
from tests.support import a_message, mailers

pytestmark = pytest.mark.django_db

JANE, BOB, BOSS = "jane@example.com", "bob@example.com", "boss@example.com"
EVERYBODY = {"to": ["Jane <Jane@Example.com>"], "cc": [BOB], "bcc": [BOSS]}
LEFT_OUT = ("suppressed", "suppressed")


def fate(entry: OutboxEntry) -> tuple[str, str]:
    entry.refresh_from_db()
    return entry.state, entry.state_reason


def enqueued(*addresses: str, **keywords: Any) -> OutboxEntry:
    """Enqueue a message, and suppress these addresses after it."""
    recipients = {name: keywords.pop(name) for name in ("to", "cc", "bcc") if name in keywords} or EVERYBODY
    entry = outbox.enqueue(a_message(**recipients), **keywords)
    for address in addresses:
        outbox.suppress(address)
    return entry


def esp(name: str, server: HTTPFaultServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Configure the mailer `default` as this provider."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    options = OPTIONS[name] | {"api_url": server.url, "timeout": 5}
    return mailers({"default": {"BACKEND": f"anymail.backends.{name}.EmailBackend", "OPTIONS": options}})


class TestBetweenEnqueueAndSending:
    def test_one_is_left_out_and_the_others_get_it_with_the_headers_as_they_were(self):
        with SMTPFaultServer() as server, smtp(server):
            entry = enqueued("JANE@EXAMPLE.COM")
            outbox.drain()

        [sent] = server.journal
        assert set(sent.recipients) == {BOB, BOSS}
        assert sent.header("To") == "Jane <Jane@Example.com>"
        assert fate(entry) == (State.SENT, "")
        assert rows(entry) == {JANE: LEFT_OUT, BOB: ("accepted", ""), BOSS: ("accepted", "")}

    def test_over_http_the_address_is_not_in_the_request_at_all(self, monkeypatch):
        with HTTPFaultServer(default=POSTMARK_OK) as server, esp("postmark", server, monkeypatch):
            entry = enqueued(JANE)
            outbox.drain()

        [request] = server.requests
        assert b"jane" not in request.body.lower()
        assert (request.json()["To"], request.json()["Bcc"]) == (BOB, BOSS)
        assert fate(entry) == (State.SENT, "")
        assert rows(entry)[JANE] == LEFT_OUT

    def test_where_nobody_is_left_it_is_cancelled_and_no_mailer_is_asked(self, provider: Provider):
        entry = enqueued(JANE, BOB, BOSS)

        result = outbox.drain()

        assert provider.accepted == []
        assert (result.cancelled, fate(entry), entry.attempts) == (1, (State.CANCELLED, "suppressed"), 0)
        assert set(rows(entry).values()) == {LEFT_OUT}
        assert (Attempt.objects.get().kind, Attempt.objects.get().code) == ("cancelled", "suppressed")
        assert not MailerState.objects.filter(strikes__gt=0).exists()

    def test_what_is_to_be_said_all_the_same_is_said(self, provider: Provider):
        entry = enqueued(JANE, ignore_suppression=True)

        outbox.drain()

        assert set(rows(entry).values()) == {("accepted", "")}

    def test_an_address_in_two_places_is_left_out_of_both(self):
        with SMTPFaultServer() as server, smtp(server):
            entry = enqueued(JANE, to=[JANE], cc=[JANE, BOB])
            outbox.drain()

        assert [sent.recipients for sent in server.journal] == [(BOB,)]
        statuses = sorted(entry.recipients.values_list("role", "address", "status"))
        assert statuses == [("cc", BOB, "accepted"), ("cc", JANE, "suppressed"), ("to", JANE, "suppressed")]

    def test_who_was_erased_meanwhile_is_still_left_out(self, provider: Provider):
        outbox.suppress(JANE)
        outbox.erase(JANE)
        entry = enqueued()

        outbox.drain()

        assert rows(entry)[JANE] == LEFT_OUT

    def test_what_a_worker_already_has_is_left_out_by_the_next_attempt(self, provider: Provider):
        provider.will(TRY_LATER)
        entry = enqueued(to=[JANE])
        outbox.drain()
        outbox.suppress(JANE)

        drain_again(entry)

        assert (fate(entry), rows(entry)) == ((State.CANCELLED, "suppressed"), {JANE: LEFT_OUT})

    def test_a_content_that_cannot_be_read_is_held_as_ever(self, provider: Provider):
        entry = enqueued(JANE)
        EntryContent.objects.update(payload={"version": 99, "fields": []})

        outbox.drain()

        assert fate(entry)[0] == State.HELD


class TestWhatIsWritten:
    def test_a_refusal_for_now_leaves_it_open_who_is_left_out_next_time(self, provider: Provider):
        provider.will(TRY_LATER)
        entry = enqueued(JANE)
        outbox.drain()
        assert set(rows(entry).values()) == {("open", "")}

        outbox.unsuppress(JANE)
        drain_again(entry)

        assert set(rows(entry).values()) == {("accepted", "")}

    def test_what_failed_has_refused_nobody_who_was_not_asked(self, provider: Provider):
        provider.will(REFUSED)
        entry = enqueued(JANE)

        outbox.drain()

        assert fate(entry)[0] == State.FAILED
        assert (rows(entry)[JANE], rows(entry)[BOB][0]) == (LEFT_OUT, "refused")

    def test_who_is_suppressed_after_some_have_it_ends_it_as_sent(self):
        with SMTPFaultServer({"rcpt": {BOB: ["451 4.2.0 later"]}}) as server, smtp(server):
            entry = enqueued()
            outbox.drain()
            outbox.suppress(BOB)
            drain_again(entry)

        assert [set(sent.recipients) for sent in server.journal] == [{"Jane@Example.com", BOSS}]
        assert fate(entry) == (State.SENT, "some recipients suppressed")
        assert rows(entry)[BOB] == LEFT_OUT
        assert {rows(entry)[who][0] for who in (JANE, BOSS)} == {"accepted"}

    def test_of_some_refused_for_now_and_some_left_out_only_the_former_are_tried_again(self):
        with SMTPFaultServer({"rcpt": {BOB: ["451 4.2.0 later"]}}) as server, smtp(server):
            entry = enqueued(JANE)
            outbox.drain()
            between = rows(entry)
            outbox.unsuppress(JANE)
            drain_again(entry)

        assert (between[JANE], between[BOB]) == (LEFT_OUT, ("open", "451"))
        assert [sent.recipients for sent in server.journal] == [(BOSS,), (BOB,)]
        assert fate(entry)[0] == State.SENT

    def test_a_success_whose_claim_was_lost_names_those_left_out(self, provider: Provider):
        entry = enqueued(JANE)
        transitions.claim("default", 1, claim_id=uuid4(), worker="w", lease=timedelta(minutes=5), database="default")
        entry.refresh_from_db()
        late = transitions.Settlement(
            entry=entry,
            claim_id=uuid4(),
            outcome=Sent(withheld={JANE: "suppressed"}),
            decision=Decision(state=State.SENT),
            started_at=entry.created_at,
        )

        transitions.settle([late], database="default")

        assert rows(entry) == {JANE: LEFT_OUT, BOB: ("accepted", ""), BOSS: ("accepted", "")}

    def test_the_guard_and_the_list_hold_together(self, provider: Provider, settings: Any):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "REDIRECT_TO": "dev@staging.example", "ALLOW_TO": [BOB]}
        entry = enqueued(JANE)

        outbox.drain()

        [sent] = provider.accepted
        assert sorted(sent.recipients()) == [BOB, "dev@staging.example"]
        assert rows(entry) == {JANE: LEFT_OUT, BOB: ("accepted", ""), BOSS: ("suppressed", "redirected")}

    def test_whoever_is_left_out_has_no_stand_in(self, provider: Provider, settings: Any):
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "REDIRECT_TO": "dev@staging.example"}
        enqueued(JANE, BOB, BOSS)

        outbox.drain()

        assert provider.accepted == []


class TestUnderHold:
    def test_what_may_be_out_is_not_sent_again_to_fewer(self, monkeypatch):
        # The key stands for the recipients as well: for others the provider would not know it again.
        with (
            HTTPFaultServer("drop", default=Answer(200, {"id": "r-1"})) as server,
            esp("resend", server, monkeypatch),
        ):
            entry = enqueued(on_ambiguous="hold")
            outbox.drain()
            assert fate(entry)[0] == State.SCHEDULED
            outbox.suppress(JANE)
            drain_again(entry)

        assert fate(entry) == (State.HELD, "ambiguous")
        assert len(server.requests) == 1


class TestCost:
    def statements(self, *, count: int) -> int:
        claim_id = uuid4()
        transitions.claim(
            "default", count, claim_id=claim_id, worker="w", lease=timedelta(minutes=5), database="default"
        )
        with CaptureQueriesContext(connection) as queries:
            jobs = read_jobs(claim_id, deadline=timedelta(minutes=1), lease_until=0.0, database="default")
        assert len(jobs) == count
        return len(queries)

    def test_it_is_one_query_for_a_claim_and_none_where_nobody_is_suppressed(self, provider: Provider):
        outbox.enqueue_many(a_message(**EVERYBODY) for _ in range(60))
        assert [self.statements(count=count) for count in (1, 20)] == [1, 1]

        outbox.suppress(JANE)

        assert [self.statements(count=count) for count in (1, 20)] == [2, 2]
