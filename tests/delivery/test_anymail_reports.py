"""What Anymail reports, raises and is given: statuses, exceptions, stamps."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import unquote_plus

import pytest
from anymail.exceptions import AnymailAPIError, AnymailCancelSend, AnymailRequestsAPIError
from anymail.message import AnymailMessage, AnymailRecipientStatus
from anymail.signals import post_send, pre_send
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage

from mail_outbox.core.outcomes import Kind, Outcome
from tests.delivery.conftest import MESSAGE_ID, OpenLine, a_message, a_parcel
from tests.delivery.esps import MAILGUN_OK, METADATA, POSTMARK_OK
from tests.faults.http_server import Answer, HTTPFaultServer


class TestRecipients:
    """The statuses of the recipients are what counts, never the number returned."""

    def deliver(self, open_line: OpenLine, *statuses: str, **fields: Any) -> Outcome:
        """Deliver to as many recipients as there are statuses."""
        names = [f"{status}{number}@example.com" for number, status in enumerate(statuses)]
        message = a_message(*names)
        message.anymail_test_response = {
            "recipient_status": {
                name: AnymailRecipientStatus(f"id{number}", status)
                for number, (name, status) in enumerate(zip(names, statuses, strict=True))
            }
        }
        return open_line("anymail.backends.test.EmailBackend", **fields).deliver(a_parcel(message))

    @pytest.mark.parametrize(
        ("statuses", "kind"),
        [
            (["queued", "sent"], Kind.SENT),
            (["unknown", "unknown"], Kind.SENT),
            (["queued", "rejected"], Kind.PARTIAL),
            (["sent", "invalid", "failed"], Kind.PARTIAL),
            (["failed", "failed"], Kind.TRANSIENT),
            (["rejected", "invalid"], Kind.PERMANENT),
        ],
    )
    def test_they_decide(self, open_line: OpenLine, statuses: list[str], kind: Kind):
        outcome = self.deliver(open_line, *statuses)

        assert outcome.kind is kind
        if kind in (Kind.PARTIAL, Kind.PERMANENT):
            bad = {f"{status}{n}@example.com" for n, status in enumerate(statuses) if status not in ("queued", "sent")}
            assert set(outcome.refused) == bad
            assert all(refusal.for_good for refusal in outcome.refused.values())

    def test_ignoring_them_in_anymail_changes_nothing(self, open_line: OpenLine):
        assert self.deliver(open_line, "rejected", ignore_recipient_status=True).kind is Kind.PERMANENT

    def test_all_message_ids_are_kept(self, open_line: OpenLine):
        assert self.deliver(open_line, "sent", "sent").provider_message_id == "id0 id1"

    def test_those_postmark_names_inactive_are_refused(self, esp_line: OpenLine):
        body = {
            "ErrorCode": 406,
            "Message": "You tried to send to a recipient that has been marked as inactive.\n"
            "Found inactive addresses: ann@example.com.\nInactive recipients are ones that have generated a hard bounce.",
        }
        with HTTPFaultServer(Answer(422, body)) as server:
            outcome = esp_line("postmark", server).deliver(a_parcel())

        assert outcome.kind is Kind.PERMANENT
        assert set(outcome.refused) == {"ann@example.com"}
        assert "ann@" not in outcome.text

    def test_a_batch_that_mailjet_took_in_part_is_partial(self, esp_line: OpenLine):
        answer = Answer(
            400,
            {
                "Messages": [
                    {"Status": "success", "To": [{"Email": "ann@example.com", "MessageID": 7}]},
                    {"Status": "error", "Errors": []},
                ]
            },
        )
        message = AnymailMessage("Hello", "Hello", "a@x.example", ["ann@example.com", "bob@example.com"], merge_data={})
        with HTTPFaultServer(answer) as server:
            outcome = esp_line("mailjet", server).deliver(a_parcel(message))

        assert outcome.kind is Kind.PARTIAL
        assert set(outcome.refused) == {"bob@example.com"}

    def test_the_others_leave_the_headers_when_only_some_are_open(self, esp_line: OpenLine):
        message = a_message("ann@example.com", "Bob <Bob@example.com>", cc=["cy@example.com"])
        with HTTPFaultServer(default=POSTMARK_OK) as server:
            esp_line("postmark", server).deliver(a_parcel(message, only=frozenset({"bob@example.com"})))

        assert server.journal[0].json()["To"] == "Bob <Bob@example.com>"
        assert "Cc" not in server.journal[0].json()

    def test_who_gets_a_copy_takes_the_place_where_nobody_else_is_open(self, esp_line: OpenLine):
        message = a_message("ann@example.com", cc=["cy@example.com"], bcc=["bob@example.com"])
        only = frozenset({"cy@example.com", "bob@example.com"})
        with HTTPFaultServer(default=POSTMARK_OK) as server:
            esp_line("postmark", server).deliver(a_parcel(message, only=only))

        sent = server.journal[0].json()
        assert (sent["To"], sent["Bcc"]) == ("cy@example.com", "bob@example.com")
        assert "Cc" not in sent


class TestWhatIsRaised:
    """Exceptions are read by how far the attempt had got."""

    @pytest.fixture
    def receive(self) -> Iterator[Any]:
        """Return what connects a receiver for one test."""
        connected: list[Any] = []

        def receive(signal: Any, error: Exception) -> None:
            def receiver(**kwargs: Any) -> None:
                raise error

            signal.connect(receiver)
            connected.append((signal, receiver))

        yield receive
        for signal, receiver in connected:
            signal.disconnect(receiver)

    def test_a_receiver_that_breaks_after_the_send_changes_nothing(self, esp_line: OpenLine, receive: Any):
        receive(post_send, ValueError("bug"))
        with HTTPFaultServer(default=POSTMARK_OK) as server:
            outcome = esp_line("postmark", server).deliver(a_parcel())

        assert (outcome.kind, outcome.provider_message_id) == (Kind.SENT, "pm-1")

    def test_a_receiver_that_breaks_before_the_send_is_a_bug_of_the_message(self, esp_line: OpenLine, receive: Any):
        receive(pre_send, ZeroDivisionError("bug"))
        with HTTPFaultServer(default=POSTMARK_OK) as server:
            outcome = esp_line("postmark", server).deliver(a_parcel())

        assert (outcome.kind, server.requests) == (Kind.PERMANENT, [])

    def test_a_receiver_that_finds_a_mistake_in_the_configuration_blames_the_mailer(
        self, esp_line: OpenLine, receive: Any
    ):
        receive(pre_send, ImproperlyConfigured("no such template folder"))
        with HTTPFaultServer(default=POSTMARK_OK) as server:
            outcome = esp_line("postmark", server).deliver(a_parcel())

        assert (outcome.kind, outcome.code, server.requests) == (Kind.MAILER, "configuration", [])

    def test_a_receiver_may_cancel(self, esp_line: OpenLine, receive: Any):
        receive(pre_send, AnymailCancelSend())
        with HTTPFaultServer(default=POSTMARK_OK) as server:
            outcome = esp_line("postmark", server).deliver(a_parcel())

        assert (outcome.kind, server.requests) == (Kind.CANCELLED, [])

    @pytest.mark.parametrize(
        "fields",
        [{"metadata": {"x": object()}}, {"tags": ["a", "b"]}, {"to": ["not an address@"]}, {"send_at": "tomorrow"}],
    )
    def test_what_anymail_cannot_send_is_permanent(self, esp_line: OpenLine, fields: dict[str, Any]):
        message = AnymailMessage("Hello", "Hello", "shop@example.com", **({"to": ["ann@example.com"]} | fields))
        with HTTPFaultServer(default=POSTMARK_OK) as server:
            outcome = esp_line("postmark", server).deliver(a_parcel(message))

        assert (outcome.kind, server.requests) == (Kind.PERMANENT, [])

    @pytest.mark.parametrize(
        ("code", "status", "kind"),
        [
            ("TooManyRequestsException", 429, Kind.THROTTLED),
            ("LimitExceededException", 400, Kind.THROTTLED),
            ("RequestTimeTooSkewed", 403, Kind.MAILER),
            ("AccountSuspendedException", 400, Kind.MAILER),
            ("NotFoundException", 404, Kind.MAILER),
            ("MessageRejected", 400, Kind.PERMANENT),
            ("BadRequestException", 400, Kind.PERMANENT),
            ("InternalFailure", 500, Kind.TRANSIENT),
        ],
    )
    def test_amazons_codes(self, open_line: OpenLine, code: str, status: int, kind: Kind):
        response = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
        message = a_message()
        message.anymail_test_response = AnymailAPIError("no", response=response)

        outcome = open_line("tests.delivery.backends.AmazonBackend").deliver(a_parcel(message))

        assert (outcome.kind, outcome.code, outcome.text) == (kind, code, "no")
        assert getattr(outcome, "retry_after", None) == (timedelta(minutes=15) if "Limit" in code else None)

    @pytest.mark.parametrize(
        ("cause", "kind"),
        [
            ("EndpointConnectionError", Kind.MAILER),
            ("NoCredentialsError", Kind.MAILER),
            ("ParamValidationError", Kind.PERMANENT),
            ("ReadTimeoutError", Kind.AMBIGUOUS),
            ("ConnectionClosedError", Kind.AMBIGUOUS),
        ],
    )
    def test_amazons_exceptions(self, open_line: OpenLine, cause: str, kind: Kind):
        message = a_message()
        message.anymail_test_response = AnymailAPIError("no")
        message.anymail_test_response.__cause__ = type(cause, (Exception,), {})()

        assert open_line("tests.delivery.backends.AmazonBackend").deliver(a_parcel(message)).kind is kind

    def test_a_status_without_an_answer_is_read(self, open_line: OpenLine):
        message = a_message()
        message.anymail_test_response = AnymailRequestsAPIError("no", status_code=429)

        assert open_line("anymail.backends.test.EmailBackend").deliver(a_parcel(message)).kind is Kind.THROTTLED


class TestStamps:
    """What is ours goes only where the provider can take it."""

    @pytest.mark.parametrize(
        ("esp", "answer", "gets"),
        [
            ("mailgun", MAILGUN_OK, {MESSAGE_ID, METADATA}),
            (
                "mandrill",
                Answer(200, [{"email": "ann@example.com", "status": "sent", "_id": "m"}]),
                {MESSAGE_ID, METADATA},
            ),
            ("postmark", POSTMARK_OK, {METADATA}),
            ("mailjet", Answer(200, {"Messages": [{"Status": "success", "To": []}]}), {METADATA}),
            ("mailersend", Answer(202, "", {"Content-Type": "text/html", "X-Message-Id": "x"}), set()),
            (
                "postal",
                Answer(200, {"status": "success", "data": {"messages": {"ann@example.com": {"id": 1}}}}),
                set(),
            ),
        ],
    )
    def test_message_id_and_metadata(self, esp_line: OpenLine, esp: str, answer: Answer, gets: set[str]):
        with HTTPFaultServer(default=answer) as server:
            line = esp_line(esp, server)
            line.deliver(a_parcel(metadata={"outbox_id": METADATA}))

        sent = unquote_plus(server.requests[0].body.decode())
        assert {ours for ours in (MESSAGE_ID, METADATA) if ours in sent} == gets

    def test_amazon_is_given_mime_with_everything(self, open_line: OpenLine, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(mail, "outbox", [], raising=False)
        line = open_line("anymail.backends.test.EmailBackend")
        message = EmailMessage("Hello", "Hello", "shop@example.com", ["ann@example.com"])
        given = []

        def look(message: EmailMessage, **_: Any) -> None:
            given.append((message.message()["Message-ID"], dict(message.extra_headers)))

        pre_send.connect(look)
        try:
            line.deliver(a_parcel(message))
        finally:
            pre_send.disconnect(look)

        assert given == [(MESSAGE_ID, {})]
