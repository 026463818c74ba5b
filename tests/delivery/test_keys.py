"""Providers that recognise a repetition are given a key; what they say to a repetition is understood."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.core.mail import EmailMessage

from mail_outbox.core.outcomes import Ambiguous, Kind, Outcome
from mail_outbox.delivery import Parcel
from mail_outbox.delivery.esps import PROVIDERS
from tests.delivery.conftest import OpenLine, a_message, a_parcel
from tests.faults.http_server import Answer, HTTPFaultServer, Request
from tests.faults.smtp_server import SMTPFaultServer

ACCEPTED = {
    "resend": Answer(200, {"id": "re-1"}),
    "sparkpost": Answer(
        200, {"results": {"total_accepted_recipients": 1, "total_rejected_recipients": 0, "id": "sp-1"}}
    ),
    "brevo": Answer(201, {"messageId": "<br-1@example.com>"}),
}
LIFETIMES = {"resend": timedelta(hours=24), "sparkpost": timedelta(hours=24), "brevo": timedelta(minutes=10)}
USED = Answer(400, {"code": "duplicate_parameter", "message": "idempotencyKey already exists"})


def key_in(esp: str, request: Request) -> str | None:
    """Return the key that came with the request."""
    if esp == "brevo":
        return request.json().get("headers", {}).get("idempotencyKey")
    return request.headers.get("idempotency-key")


def keys_of(esp_line: OpenLine, esp: str, *parcels: Parcel) -> list[str | None]:
    """Return the keys that these parcels go with."""
    with HTTPFaultServer(default=ACCEPTED[esp]) as server:
        line = esp_line(esp, server)
        for parcel in parcels:
            assert line.deliver(parcel).kind is Kind.SENT
        line.close()
    return [key_in(esp, request) for request in server.requests]


def to_both(**fields: object) -> Parcel:
    """Return a parcel for two recipients."""
    return a_parcel(a_message("ann@example.com", "bob@example.com"), **fields)


@pytest.mark.parametrize("esp", ACCEPTED)
class TestKey:
    def test_every_repetition_has_the_same(self, esp_line: OpenLine, esp: str):
        first, again = keys_of(esp_line, esp, a_parcel(), a_parcel())

        assert first == again
        assert str(UUID(first)) == first

    def test_another_entry_has_another(self, esp_line: OpenLine, esp: str):
        first, other = keys_of(esp_line, esp, a_parcel(), a_parcel(seed="another"))

        assert first != other

    def test_fewer_recipients_have_another(self, esp_line: OpenLine, esp: str):
        ann, bob = frozenset({"ann@example.com"}), frozenset({"bob@example.com"})
        with HTTPFaultServer(default=ACCEPTED[esp]) as server:
            line = esp_line(esp, server)
            for only in (None, ann, bob, ann):
                line.deliver(to_both(only=only))
            line.close()
        everybody, ann_s, bob_s, ann_s_again = [key_in(esp, request) for request in server.requests]

        assert len({everybody, ann_s, bob_s}) == 3
        assert ann_s == ann_s_again

    def test_the_body_of_a_repetition_is_the_same(self, esp_line: OpenLine, esp: str):
        message = {"headers": {"X-Order": "1"}, "cc": ["cc@example.com"], "attachments": [("a.txt", "a", "text/plain")]}
        with HTTPFaultServer(default=ACCEPTED[esp]) as server:
            line = esp_line(esp, server)
            for _ in range(2):
                line.deliver(a_parcel(a_message(**message), tags=("one",), metadata={"order": 1}))
            line.close()

        first, again = server.requests
        assert first.body == again.body

    def test_whoever_does_not_know_the_end_knows_how_long_it_lives(self, esp_line: OpenLine, esp: str):
        with HTTPFaultServer("accept-then-drop") as server:
            outcome = esp_line(esp, server).deliver(a_parcel())

        assert isinstance(outcome, Ambiguous)
        assert outcome.key_lifetime == LIFETIMES[esp]


def test_the_others_have_none():
    assert {name.lower() for name, provider in PROVIDERS.items() if provider.key} == set(ACCEPTED)


def test_without_a_key_nothing_is_promised(esp_line: OpenLine, smtp_line: OpenLine):
    with HTTPFaultServer("accept-then-drop") as server, SMTPFaultServer({"dot": "accept-then-drop"}) as relay:
        outcomes = [esp_line("postmark", server).deliver(a_parcel()), smtp_line(relay).deliver(a_parcel())]

    assert [getattr(outcome, "key_lifetime", "?") for outcome in outcomes] == [None, None]
    assert "idempotency-key" not in server.requests[0].headers


class TestCallersOwn:
    def test_the_callers_key_stays_and_promises_nothing_of_ours(self, esp_line: OpenLine):
        message = a_message(headers={"IdempotencyKey": "mine"})
        with HTTPFaultServer("accept-then-drop") as server:
            outcome = esp_line("brevo", server).deliver(a_parcel(message))

        [request] = server.requests
        assert {name.lower(): value for name, value in request.json()["headers"].items()}["idempotencykey"] == "mine"
        assert isinstance(outcome, Ambiguous)
        assert outcome.key_lifetime is None

    def test_the_key_of_a_mailer_that_sets_one_stays(self, open_line: OpenLine, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with HTTPFaultServer("accept-then-drop") as server:
            line = open_line("tests.delivery.backends.KeyedResend", api_key="k", api_url=server.url)
            outcome = line.deliver(a_parcel())

        assert server.requests[0].headers["idempotency-key"] == "mine"
        assert isinstance(outcome, Ambiguous)
        assert outcome.key_lifetime is None


def answered(esp_line: OpenLine, esp: str, answer: Answer, **fields: bool) -> Outcome:
    """Return what an attempt comes to that is answered so."""
    with HTTPFaultServer(answer) as server:
        return esp_line(esp, server).deliver(a_parcel(**fields))


class TestAnswers:
    @pytest.mark.parametrize(
        ("esp", "answer", "kind"),
        [
            ("resend", Answer(409, {"name": "concurrent_idempotent_requests"}), Kind.TRANSIENT),
            ("resend", Answer(409, {"name": "invalid_idempotent_request"}), Kind.PERMANENT),
            ("sparkpost", Answer(409, {"errors": [{"code": "1600"}]}), Kind.TRANSIENT),
            ("sparkpost", Answer(409, {"errors": [{"code": "1601"}]}), Kind.PERMANENT),
            ("sparkpost", Answer(400, {"errors": [{"code": 1602}]}), Kind.PERMANENT),
        ],
    )
    def test_a_conflict_over_the_key_is_told_from_one_over_the_body(
        self, esp_line: OpenLine, esp: str, answer: Answer, kind: Kind
    ):
        assert answered(esp_line, esp, answer).kind is kind

    def test_a_key_that_an_attempt_with_an_unknown_end_has_used_says_that_it_arrived(self, esp_line: OpenLine):
        assert answered(esp_line, "brevo", USED, may_be_out=True).kind is Kind.SENT

    def test_a_key_that_a_refused_attempt_may_have_used_as_well_says_nothing(self, esp_line: OpenLine):
        a_while, long = timedelta(minutes=29), timedelta(minutes=31)

        assert answered(esp_line, "brevo", USED, may_be_out=True, refused_ago=a_while).kind is Kind.AMBIGUOUS
        assert answered(esp_line, "brevo", USED, may_be_out=True, refused_ago=long).kind is Kind.SENT

    def test_a_key_that_a_refused_attempt_has_used_is_waited_for(self, esp_line: OpenLine):
        outcome = answered(esp_line, "brevo", USED)

        assert outcome.kind is Kind.TRANSIENT
        assert getattr(outcome, "not_before", None) == timedelta(minutes=30)


class TestNeed:
    """What may be out goes again only where the provider recognises it."""

    def test_where_it_has_a_key_it_goes(self, esp_line: OpenLine):
        with HTTPFaultServer(default=ACCEPTED["resend"]) as server:
            assert esp_line("resend", server).deliver(a_parcel(needs_key=True)).kind is Kind.SENT

    def test_where_it_has_none_it_stays(self, esp_line: OpenLine):
        with HTTPFaultServer() as server:
            outcome = esp_line("postmark", server).deliver(a_parcel(needs_key=True))

        assert (outcome.kind, outcome.code) == (Kind.AMBIGUOUS, "not repeated")
        assert server.connections == 0

    def test_where_the_key_is_the_callers_it_stays(self, esp_line: OpenLine):
        message: EmailMessage = a_message(headers={"idempotencyKey": "mine"})
        with HTTPFaultServer() as server:
            outcome = esp_line("brevo", server).deliver(a_parcel(message, needs_key=True))

        assert outcome.code == "not repeated"
        assert server.connections == 0
