"""What the guard does to a message: whom it goes to, what it says of those it was for, and what cannot get around it."""

import json
from collections.abc import Callable
from email import message_from_bytes
from email.policy import default
from typing import Any
from urllib.parse import parse_qs

import pytest
from anymail.message import AnymailMessage
from anymail.signals import pre_send
from django.core import mail
from django.core.mail import EmailMessage
from hypothesis import given
from hypothesis import strategies as st

from mail_outbox.core.addresses import ascii_text, normalise
from mail_outbox.core.outcomes import Kind
from mail_outbox.delivery.guard import Guard, lead
from tests.delivery.conftest import OpenLine, a_message, a_parcel
from tests.delivery.esps import MAILGUN_OK
from tests.faults.http_server import Answer, HTTPFaultServer
from tests.faults.smtp_server import SMTPFaultServer

LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
POSTMARK_BATCH = [{"ErrorCode": 0, "Message": "OK", "MessageID": "pm-1", "To": "dev@staging.example"}]

SetGuard = Callable[..., None]


@pytest.fixture
def guarded(settings: Any) -> SetGuard:
    """Return what sets the guard; the line has to be open before, because it sets the mailers."""

    def guarded(**keys: Any) -> None:
        settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, **keys}

    return guarded


def parsed(data: bytes) -> Any:
    """Return the message that a server took, as a mail program reads it."""
    return message_from_bytes(data, policy=default)


def a_full_message(**fields: Any) -> EmailMessage:
    """Return a message to, cc and bcc."""
    values: dict[str, Any] = {"cc": ["Bob <bob@example.com>"], "bcc": ["boss@example.com"]}
    return a_message("Jane Doe <Jane@example.com>", "ann@example.com", **(values | fields))


class TestRedirection:
    def test_all_of_to_cc_and_bcc_go_to_the_stand_in_alone(self, smtp_line: OpenLine, guarded: SetGuard):
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            guarded(REDIRECT_TO="dev@staging.example")
            outcome = line.deliver(a_parcel(a_full_message()))

        assert outcome.kind is Kind.SENT
        assert [sent.recipients for sent in server.journal] == [("dev@staging.example",)]
        sent = parsed(server.journal[0].data)
        assert (sent["To"], sent["Cc"], sent["Bcc"]) == ("dev@staging.example", None, None)
        assert sent["X-Original-To"] == "Jane Doe <Jane@example.com>, ann@example.com"
        assert sent["X-Original-Cc"] == "Bob <bob@example.com>"
        assert sent["X-Original-Bcc"] == "boss@example.com"

    def test_the_outcome_says_so_and_names_whom_it_did_not_reach(self, smtp_line: OpenLine, guarded: SetGuard):
        with SMTPFaultServer({"dot": "250 2.0.0 queued"}) as server:
            line = smtp_line(server)
            guarded(REDIRECT_TO=["dev@staging.example", "ann@example.com"])
            outcome = line.deliver(a_parcel(a_full_message()))

        assert outcome.text == "Redirected by MAIL_OUTBOX['REDIRECT_TO']. 2.0.0 queued"
        # Ann is one of those it is redirected to, so she has got it.
        assert outcome.withheld == dict.fromkeys(
            ("jane@example.com", "bob@example.com", "boss@example.com"), "redirected"
        )

    def test_the_message_itself_is_left_alone(self, smtp_line: OpenLine, guarded: SetGuard):
        message = a_full_message(headers={"X-Shop": "1"})
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            guarded(REDIRECT_TO="dev@staging.example")
            parcel = a_parcel(message)
            for _ in range(2):
                line.deliver(parcel)

        assert message.to == ["Jane Doe <Jane@example.com>", "ann@example.com"]
        assert message.extra_headers == {"X-Shop": "1"}
        first, second = server.journal
        assert first.data == second.data

    @pytest.mark.parametrize("name", ["To", "TO", "Cc", "cc", "Resent-To", "X-Original-To", "x-original-cc"])
    def test_a_header_given_by_hand_does_not_show_through(self, smtp_line: OpenLine, guarded: SetGuard, name: str):
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            guarded(REDIRECT_TO="dev@staging.example")
            line.deliver(a_parcel(a_full_message(headers={name: "real@customer.example"})))

        assert b"real@customer.example" not in server.journal[0].data
        assert parsed(server.journal[0].data)["To"] == "dev@staging.example"

    def test_a_class_with_more_recipients_than_its_lists_is_guarded_too(self, smtp_line: OpenLine, guarded: SetGuard):
        class Archived(EmailMessage):
            def recipients(self) -> list[str]:
                return [*super().recipients(), "archive@customer.example"]

        with SMTPFaultServer() as server:
            line = smtp_line(server)
            guarded(REDIRECT_TO="dev@staging.example")
            line.deliver(a_parcel(Archived("Hello", "Hello", "shop@example.com", ["ann@example.com"])))

        assert server.journal[0].recipients == ("dev@staging.example",)

    def test_without_the_settings_nothing_changes(self, smtp_line: OpenLine):
        with SMTPFaultServer() as server:
            outcome = smtp_line(server).deliver(a_parcel(a_full_message()))

        assert (outcome.withheld, b"X-Original" in server.journal[0].data) == ({}, False)
        assert len(server.journal[0].recipients) == 4


class TestAllowing:
    def test_who_is_allowed_keeps_its_place_and_the_stand_in_gets_what_is_for_the_others(
        self, smtp_line: OpenLine, guarded: SetGuard
    ):
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            guarded(REDIRECT_TO="dev@staging.example", ALLOW_TO=["b*@EXAMPLE.com"])
            outcome = line.deliver(a_parcel(a_full_message()))

        [sent] = server.journal
        assert set(sent.recipients) == {"dev@staging.example", "bob@example.com", "boss@example.com"}
        assert (sent.header("To"), sent.header("Cc")) == ("dev@staging.example", "Bob <bob@example.com>")
        assert sorted(outcome.withheld) == ["ann@example.com", "jane@example.com"]

    def test_without_a_stand_in_the_others_are_left_out(self, smtp_line: OpenLine, guarded: SetGuard):
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            guarded(ALLOW_TO=["boss@example.com", "ann@*"])
            outcome = line.deliver(a_parcel(a_full_message()))

        [sent] = server.journal
        assert set(sent.recipients) == {"ann@example.com", "boss@example.com"}
        assert sent.header("X-Original-To") == "Jane Doe <Jane@example.com>, ann@example.com"
        assert outcome.withheld == dict.fromkeys(("jane@example.com", "bob@example.com"), "not allowed")
        assert outcome.text.startswith("MAIL_OUTBOX['ALLOW_TO'] left some out.")

    def test_where_all_are_allowed_nothing_is_added(self, smtp_line: OpenLine, guarded: SetGuard):
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            guarded(REDIRECT_TO="dev@staging.example", ALLOW_TO=["*@example.com"])
            outcome = line.deliver(a_parcel(a_full_message()))

        assert (outcome.withheld, b"X-Original" in server.journal[0].data) == ({}, False)
        assert "dev@staging.example" not in server.journal[0].recipients

    @pytest.mark.parametrize("allowed", [[], ["*@staging.example"]])
    def test_where_nobody_is_left_it_is_cancelled_with_the_setting_as_its_reason(
        self, smtp_line: OpenLine, guarded: SetGuard, allowed: list[str]
    ):
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            guarded(ALLOW_TO=allowed)
            outcome = line.deliver(a_parcel(a_full_message()))

        assert (outcome.kind, outcome.code) == (Kind.CANCELLED, "not allowed")
        assert "MAIL_OUTBOX['ALLOW_TO']" in outcome.text
        assert server.connections == 0

    def test_a_cc_that_is_left_alone_becomes_the_addressee(self):
        message = a_message("ann@example.com", cc=["bob@example.com"])

        led = lead(a_parcel(message), Guard(allow_to=("bob@example.com",))).parcel.message

        assert (led.to, led.cc) == (["bob@example.com"], [])

    @pytest.mark.parametrize(
        ("pattern", "address", "is_allowed"),
        [
            ("jane@example.com", "Jane Doe <JANE@Example.COM>", True),
            ("Jane@example.com", "jane@example.com", True),
            ("*@example.com", "jane@sub.example.com", False),
            ("*@*.example.com", "jane@sub.example.com", True),
            ("*@bücher.example", "jane@xn--bcher-kva.example", True),
            ("*@xn--bcher-kva.example", "jane@Bücher.example", True),
            ("test+?@example.com", "test+1@example.com", True),
            ("test+?@example.com", "test+12@example.com", False),
            ("*@example.com", "victim@customer.example, x@example.com", False),
            ("*@example.com", "<victim@customer.example> x@example.com", False),
            ("*@example.com", "victim@customer.example (x@example.com)", False),
            ("*@example.com", "x@example.com <victim@customer.example>", False),
            ("*@example.com", "victim@customer.example\r\nBcc: x@example.com", False),
            ("*@example.com", "", False),
        ],
    )
    def test_what_matches(self, pattern: str, address: str, *, is_allowed: bool):
        guard = Guard(allow_to=(normalise(pattern),))

        assert guard.allows(address) is is_allowed


class TestOnlyTheOpenOnes:
    """An attempt limited to those still open is led like a whole one."""

    def lead(self, only: set[str], **guard: Any) -> Any:
        return lead(a_parcel(a_full_message(), only=frozenset(only)), Guard(**guard))

    def test_open_ones_that_are_redirected_are_the_stand_ins(self):
        guarded = self.lead({"ann@example.com"}, redirect_to=("dev@staging.example",))

        assert guarded.parcel.only == {"dev@staging.example"}
        assert guarded.refused == {"ann@example.com"}

    def test_a_stand_in_is_not_written_to_again_for_those_who_have_had_theirs(self):
        guarded = self.lead({"bob@example.com"}, redirect_to=("dev@staging.example",), allow_to=("bob@example.com",))

        assert guarded.parcel.only == {"bob@example.com"}
        assert guarded.refused == frozenset()
        assert guarded.parcel.message.to == ["dev@staging.example"]

    def test_nobody_is_left_where_the_open_ones_are_not_allowed(self):
        assert self.lead({"ann@example.com"}, allow_to=("bob@example.com",)).is_nobody_left
        assert not self.lead({"who@example.com"}, allow_to=("bob@example.com",)).is_nobody_left

    def test_the_bytes_stay_the_same_and_the_envelope_shrinks(self, smtp_line: OpenLine, guarded: SetGuard):
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            guarded(REDIRECT_TO="dev@staging.example", ALLOW_TO=["bob@example.com"])
            for only in (None, frozenset({"bob@example.com"})):
                line.deliver(a_parcel(a_full_message(), only=only))

        first, second = server.journal
        assert (first.recipients, second.recipients) == (
            ("dev@staging.example", "bob@example.com"),
            ("bob@example.com",),
        )
        assert first.data == second.data


class TestOriginals:
    """Headers that any server takes and any mail program reads back."""

    def sent(self, smtp_line: OpenLine, guarded: SetGuard, to: list[str]) -> bytes:
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            guarded(REDIRECT_TO="dev@staging.example")
            outcome = line.deliver(a_parcel(a_message(*to)))

        assert outcome.kind is Kind.SENT, outcome
        return server.journal[0].data

    def test_names_are_encoded(self, smtp_line: OpenLine, guarded: SetGuard):
        names = ['"Müller, Jürgen" <jm@bücher.example>', '"Doe, J." <j@x.example>', "李 <li@x.example>"]

        data = self.sent(smtp_line, guarded, names)

        assert data.isascii()
        assert b"jm@xn--bcher-kva.example" in data
        header = str(parsed(data)["X-Original-To"])
        assert "李 <li@x.example>" in header
        assert "Müller, Jürgen" in header
        assert '"Doe, J." <j@x.example>' in header

    def test_a_long_list_is_folded(self, smtp_line: OpenLine, guarded: SetGuard):
        to = [f"Größe Nummer {number} <reader.{number}@example.com>" for number in range(50)]

        data = self.sent(smtp_line, guarded, to)

        head = data.partition(b"\r\n\r\n")[0]
        assert max(map(len, head.split(b"\r\n"))) <= 100
        header = str(parsed(data)["X-Original-To"])
        assert header.count("@") == 50
        assert "Größe Nummer 49 <reader.49@example.com>" in header

    def test_an_endless_list_is_cut(self):
        message = a_message(*(f"reader.{number}@example.com" for number in range(5000)))

        led = lead(a_parcel(message), Guard(redirect_to=("dev@staging.example",))).parcel.message

        header = led.extra_headers["X-Original-To"]
        assert len(header) <= 10_010
        assert header.endswith("@example.com, ...")

    @pytest.mark.parametrize(
        "address",
        [
            "x@example.com\r\nBcc: real@customer.example",
            "Evil\nX-Spam: no <x@example.com>",
            "\x00a\x0bb\x85c\u2028d",
            "=?utf-8?q?a=0D=0ABcc:_real?= <x@example.com>",
            "not an address",
            "\ud800",
        ],
    )
    def test_nothing_can_be_smuggled_in(self, smtp_line: OpenLine, guarded: SetGuard, address: str):
        data = self.sent(smtp_line, guarded, [address, "ann@example.com"])

        headers = data.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").split(b"\r\n")
        names = {line.partition(b":")[0].lower() for line in headers}
        assert b"x-original-to" in names
        assert not names & {b"bcc", b"x-spam"}

    @given(st.text(max_size=300))
    def test_whatever_the_text_it_is_one_line_of_short_words(self, text: str):
        written = ascii_text(text)

        assert written.isascii()
        assert written.isprintable()
        assert all(len(word) < 700 for word in written.split(" "))


class TestRefusals:
    """What a server says of a stand-in is not said of those it stands for, unless nobody got it."""

    def deliver(
        self, smtp_line: OpenLine, guarded: SetGuard, rcpt: dict[str, str], *, redirect_to: list[str]
    ) -> tuple[Any, SMTPFaultServer]:
        with SMTPFaultServer({"rcpt": rcpt}) as server:
            line = smtp_line(server)
            guarded(REDIRECT_TO=redirect_to, ALLOW_TO=["bob@example.com"])
            message = a_message("ann@example.com", cc=["bob@example.com"])
            return line.deliver(a_parcel(message)), server

    def test_one_stand_in_of_two_is_enough(self, smtp_line: OpenLine, guarded: SetGuard):
        outcome, _ = self.deliver(
            smtp_line,
            guarded,
            {"b@staging.example": "451 later"},
            redirect_to=["a@staging.example", "b@staging.example"],
        )

        assert (outcome.kind, outcome.refused) == (Kind.SENT, {})
        assert outcome.withheld == {"ann@example.com": "redirected"}

    @pytest.mark.parametrize(("reply", "for_good"), [("451 4.2.0 later", False), ("550 5.1.1 unknown", True)])
    def test_where_every_stand_in_is_refused_so_are_those_they_stand_for(
        self, smtp_line: OpenLine, guarded: SetGuard, reply: str, *, for_good: bool
    ):
        outcome, _ = self.deliver(smtp_line, guarded, {"a@staging.example": reply}, redirect_to=["a@staging.example"])

        assert outcome.kind is Kind.PARTIAL
        refusal = outcome.refused["ann@example.com"]
        assert (set(outcome.refused), refusal.code, refusal.for_good) == ({"ann@example.com"}, "redirected", for_good)
        assert reply[:3] in refusal.text

    def test_a_stand_in_that_is_allowed_by_itself_is_refused_for_itself(self, smtp_line: OpenLine, guarded: SetGuard):
        outcome, _ = self.deliver(
            smtp_line, guarded, {"bob@example.com": "451 later"}, redirect_to=["bob@example.com", "a@staging.example"]
        )

        assert outcome.kind is Kind.PARTIAL
        assert {address: each.for_good for address, each in outcome.refused.items()} == {"bob@example.com": False}


class TestMistakes:
    @pytest.mark.parametrize(
        "keys",
        [
            {"REDIRECT_TO": ""},
            {"REDIRECT_TO": []},
            {"REDIRECT_TO": ["nobody"]},
            {"REDIRECT_TO": "a@x.example, b@x.example"},
            {"REDIRECT_TO": 7},
            {"ALLOW_TO": "*@example.com"},
            {"ALLOW_TO": ["*"]},
            {"ALLOW_TO": ["@example.com"]},
            {"ALLOW_TO": [None]},
        ],
        ids=str,
    )
    def test_a_guard_that_cannot_be_understood_stops_the_mailer_and_loses_nothing(
        self, smtp_line: OpenLine, guarded: SetGuard, keys: dict[str, Any]
    ):
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            guarded(**keys)
            outcome = line.deliver(a_parcel())

        assert (outcome.kind, outcome.code) == (Kind.MAILER, "configuration")
        assert next(iter(keys)) in outcome.text
        assert server.connections == 0

    def test_a_message_that_cannot_be_led_is_not_sent(self, smtp_line: OpenLine, guarded: SetGuard):
        message = a_message()
        message.extra_headers = 7  # type: ignore[assignment]
        with SMTPFaultServer() as server:
            line = smtp_line(server)
            guarded(REDIRECT_TO="dev@staging.example")
            outcome = line.deliver(a_parcel(message))

        assert (outcome.kind, outcome.code) == (Kind.PERMANENT, "build")
        assert server.connections == 0


class TestAnymail:
    """Anymail takes recipients from more than the lists of addresses."""

    def a_batch(self, **fields: Any) -> AnymailMessage:
        """Return a message with something for each of its recipients."""
        return AnymailMessage(
            from_email="shop@example.com",
            to=["Jane <Jane@example.com>", "ann@example.com"],
            cc=["bob@example.com"],
            merge_data={"Jane@example.com": {"name": "Jane"}, "ann@example.com": {"name": "Ann"}},
            merge_metadata={"Jane@example.com": {"order": 1}, "ann@example.com": {"order": 2}},
            merge_headers={"Jane@example.com": {"X-Off": "<https://x.example/jane>", "To": "real@customer.example"}},
            **fields,
        )

    def test_mailgun_gets_the_data_of_the_first_for_the_stand_in(self, esp_line: OpenLine, guarded: SetGuard):
        with HTTPFaultServer(default=MAILGUN_OK) as server:
            line = esp_line("mailgun", server)
            guarded(REDIRECT_TO="Dev <Dev@staging.example>")
            outcome = line.deliver(a_parcel(self.a_batch()))

        assert outcome.kind is Kind.SENT, outcome
        posted = {key: values[0] for key, values in parse_qs(server.requests[0].body.decode()).items()}
        assert (posted["to"], "cc" in posted) == ("dev@staging.example", False)
        variables = json.loads(posted["recipient-variables"])
        assert list(variables) == ["dev@staging.example"]
        assert variables["dev@staging.example"]["name"] == "Jane"
        assert "real@customer.example" not in server.requests[0].body.decode()
        assert posted["h:X-Original-To"] == "Jane <Jane@example.com>, ann@example.com"

    def test_postmark_gets_one_rendered_message_for_each_who_may_have_it(self, esp_line: OpenLine, guarded: SetGuard):
        with HTTPFaultServer(default=Answer(200, [*POSTMARK_BATCH, *POSTMARK_BATCH])) as server:
            line = esp_line("postmark", server)
            guarded(REDIRECT_TO="dev@staging.example", ALLOW_TO=["ann@example.com"])
            line.deliver(a_parcel(self.a_batch(template_id="welcome")))

        sent = server.requests[0].json()["Messages"]
        assert [(each["To"], each["TemplateModel"], each["Metadata"]) for each in sent] == [
            ("ann@example.com", {"name": "Ann"}, {"order": 2}),
            ("dev@staging.example", {"name": "Jane"}, {"order": 1}),
        ]
        assert "Cc" not in sent[0]

    def test_recipients_in_esp_extra_go_nowhere(self, esp_line: OpenLine, guarded: SetGuard):
        message = AnymailMessage(to=["ann@example.com"], from_email="shop@example.com", body="x")
        message.esp_extra = {
            "Bcc": "real@customer.example",
            "MessageStream": "broadcast",
            "deep": [{"personalizations": [{"to": ["real@customer.example"]}], "kept": 1}],
        }
        with HTTPFaultServer() as server:
            line = esp_line("postmark", server)
            guarded(REDIRECT_TO="dev@staging.example")
            line.deliver(a_parcel(message))

        posted = server.requests[0].json()
        assert "real@customer.example" not in json.dumps(posted)
        assert (posted["MessageStream"], posted["deep"]) == ("broadcast", [{"kept": 1}])
        assert message.esp_extra["Bcc"] == "real@customer.example"

    def test_recipients_in_the_send_defaults_go_nowhere(self, esp_line: OpenLine, guarded: SetGuard, settings: Any):
        settings.ANYMAIL = {
            "SEND_DEFAULTS": {
                "bcc": ["archive@customer.example"],
                "tags": ["shop"],
                "esp_extra": {"Cc": "real@customer.example"},
            }
        }
        with HTTPFaultServer() as server:
            line = esp_line("postmark", server)
            guarded(REDIRECT_TO="dev@staging.example")
            line.deliver(a_parcel())

        posted = server.requests[0].json()
        assert "customer.example" not in json.dumps(posted)
        assert (posted["To"], posted["Tag"]) == ("dev@staging.example", "shop")

    def test_an_explicit_to_header_is_no_unsupported_feature(self, esp_line: OpenLine, guarded: SetGuard):
        message = a_message(headers={"to": "undisclosed-recipients:;"})
        with HTTPFaultServer(default=MAILGUN_OK) as server:
            line = esp_line("mailgun", server)
            guarded(REDIRECT_TO="dev@staging.example")
            outcome = line.deliver(a_parcel(message))

        assert outcome.kind is Kind.SENT, outcome

    def test_a_receiver_of_pre_send_sees_the_guarded_message(
        self, open_line: OpenLine, guarded: SetGuard, monkeypatch: Any
    ):
        monkeypatch.setattr(mail, "outbox", [], raising=False)
        line = open_line("anymail.backends.test.EmailBackend")
        guarded(REDIRECT_TO="dev@staging.example")
        seen = []

        def look(message: EmailMessage, **_: Any) -> None:
            seen.append((message.to, message.recipients()))

        pre_send.connect(look)
        try:
            line.deliver(a_parcel(a_full_message()))
        finally:
            pre_send.disconnect(look)

        assert seen == [(["dev@staging.example"], ["dev@staging.example"])]
