from contextlib import suppress

import django
import pytest
from django.core.mail import EmailMessage
from django.core.mail.backends.smtp import EmailBackend
from django.utils.functional import lazystr
from hypothesis import example, given
from hypothesis import strategies as st

from mail_outbox.core import addresses
from mail_outbox.core.addresses import PLAIN, Mailbox, is_plain, mailboxes, normalise, parse
from mail_outbox.core.errors import InvalidMessage

GOOD = [
    pytest.param("jo@shop.example", "jo@shop.example", id="bare"),
    pytest.param("Jo <Jo@SHOP.example>", "jo@shop.example", id="with a name, in capitals"),
    pytest.param('"Doe, John" <j@x.example>', "j@x.example", id="comma in quotes"),
    pytest.param('"Acme Inc." <info@acme.example>', "info@acme.example", id="dot in quotes"),
    pytest.param("Jö <jo@x.example>", "jo@x.example", id="non-ASCII name"),
    pytest.param("=?utf-8?q?J=C3=B6?= <jo@x.example>", "jo@x.example", id="encoded name"),
    pytest.param("jo@BÜCHER.example", "jo@xn--bcher-kva.example", id="IDN"),
    pytest.param("Jo <jo@xn--bcher-kva.example>", "jo@xn--bcher-kva.example", id="IDN as punycode"),
    pytest.param('"jo doe"@x.example', '"jo doe"@x.example', id="quoted local part"),
    pytest.param('"a@b"@bücher.example', '"a@b"@xn--bcher-kva.example', id="@ in a quoted local part"),
    pytest.param("jo@x.example (Jo)", "jo@x.example", id="comment"),
    pytest.param(" jo@x.example ", "jo@x.example", id="spaces around"),
    pytest.param("jo@[192.0.2.1]", "jo@[192.0.2.1]", id="address literal"),
    pytest.param("webmaster", "webmaster", id="no domain"),
]
BAD = [
    pytest.param("", id="empty"),
    pytest.param("<>", id="null sender"),
    pytest.param("not an address", id="words"),
    pytest.param("1@[ ", id="a domain literal that never ends"),
    pytest.param("a@x.example, b@x.example", id="two with a comma"),
    pytest.param("a@x.example; b@x.example", id="two with a semicolon"),
    pytest.param("a@x.example b@x.example", id="two with a space"),
    pytest.param("Doe, John <j@x.example>", id="comma without quotes"),
    pytest.param("Friends: a@x.example;", id="group"),
    pytest.param("jo@", id="nothing behind the @"),
    pytest.param("@x.example", id="nothing before the @"),
    pytest.param("a..b@x.example", id="two dots"),
    pytest.param("Jo <jo@x.example", id="no closing bracket"),
    pytest.param("jö@x.example", id="non-ASCII local part"),
    pytest.param("jo@x.example\nBcc: all@x.example", id="newline"),
    pytest.param("jo@x\0.example", id="NUL"),
    pytest.param("jo@\ud800.example", id="half a surrogate pair"),
    pytest.param("jo@" + "a" * 64 + ".example", id="long label"),
    pytest.param("a" * 2_000 + "@x.example", id="very long"),
    pytest.param("(" * 900, id="comments without end"),
]


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_one_mailbox_is_parsed_and_normalised(text: str, expected: str):
    assert parse(text) == expected
    assert normalise(text) == expected


@pytest.mark.parametrize("text", BAD)
def test_anything_but_one_mailbox_is_refused_by_name(text: str):
    with pytest.raises(InvalidMessage) as caught:
        parse(text)

    assert repr(text)[1:40] in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.skipif(django.VERSION >= (6, 0), reason="Django 6.0 began to refuse it")
def test_a_dot_in_a_bare_display_name_passes_where_django_sends_it():
    assert parse("Acme Inc. <info@acme.example>") == "info@acme.example"


@pytest.mark.skipif(django.VERSION < (6, 0), reason="Django 5.2 puts the quotes there itself")
def test_a_dot_in_a_bare_display_name_is_refused_where_django_refuses_it():
    with pytest.raises(InvalidMessage, match="quotes around a display name"):
        parse("Acme Inc. <info@acme.example>")


@pytest.mark.parametrize("text", [*BAD, *(pytest.param(param.values[0], id=param.id) for param in GOOD)])
def test_what_normalise_gives_can_be_stored_and_searched(text: str):
    normalised = normalise(text)

    normalised.encode()
    assert "\0" not in normalised
    assert len(normalised) <= 320
    assert normalise(normalised) == normalised


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(" A@X.example, b@x.example", "a@x.example, b@x.example", id="two"),
        pytest.param("Not An Address", "not an address", id="words"),
        pytest.param("x\0y\ud800z", "xyz", id="unstorable"),
        pytest.param("a" * 400, "a" * 320, id="long"),
        pytest.param("Jö@x.example", "jö@x.example", id="non-ASCII local part"),
    ],
)
def test_what_cannot_be_parsed_comes_back_tidied(text: str, expected: str):
    assert normalise(text) == expected


@given(st.text())
def test_normalise_never_raises(text: str):
    normalise(text).encode()


def django_takes(text: str) -> None:
    """Do with the address what Django's SMTP backend does before it sends."""
    if django.VERSION >= (6, 0):
        EmailBackend.prep_address(None, text)  # type: ignore[arg-type]
    else:
        from django.core.mail.message import sanitize_address

        sanitize_address(text, "utf-8")


@given(st.text("aB1ü.@ <>\"'(),;:\\[]\t") | st.text())
@example('"Doe, John" <j@x.example>')
@example("jo@bücher.example")
def test_what_is_parsed_django_can_send_to(text: str):
    try:
        parse(text)
    except InvalidMessage:
        return
    django_takes(text)


@given(st.text())
def test_parse_raises_nothing_but_invalid_message(text: str):
    with suppress(InvalidMessage):
        parse(text)


def test_mailboxes_come_in_the_order_to_cc_bcc():
    message = EmailMessage(to=["B@x.example", "a@x.example"], cc=["c@x.example"], bcc=["d@x.example"])

    assert mailboxes(message) == [
        Mailbox("to", "b@x.example"),
        Mailbox("to", "a@x.example"),
        Mailbox("cc", "c@x.example"),
        Mailbox("bcc", "d@x.example"),
    ]


def test_an_address_counts_once_per_role():
    message = EmailMessage(to=["Jo <jo@x.example>", "JO@x.example"], cc=["jo@x.example"])

    assert mailboxes(message) == [Mailbox("to", "jo@x.example"), Mailbox("cc", "jo@x.example")]


def test_a_comma_in_a_display_name_stays_one_recipient():
    assert mailboxes(EmailMessage(to=['"Doe, John" <j@x.example>'])) == [Mailbox("to", "j@x.example")]


def test_odd_recipients_never_raise():
    message = EmailMessage(to=["", "two@x.example, more@x.example", lazystr("Lazy <LAZY@x.example>")])
    message.cc = "bare@x.example"
    message.bcc = None

    assert mailboxes(message) == [
        Mailbox("to", "two@x.example, more@x.example"),
        Mailbox("to", "lazy@x.example"),
        Mailbox("cc", "bare@x.example"),
    ]


@given(st.from_regex(PLAIN, fullmatch=True))
@example("=?utf-8?q?jo?=@x.example")
@example("a" * 64 + "@" + "b" * 63 + ".example")
def test_a_plain_address_is_what_the_parser_would_make_of_it(text: str):
    mailbox = addresses._mailbox(text)
    spec = addresses._spec(mailbox).lower()

    assert not is_plain(text) or (normalise(text), parse(text), list(mailbox.all_defects)) == (spec, spec, [])


@pytest.mark.parametrize("text", ["Jo@SHOP.example", "o'brien+x@a-b.example", "jo@localhost", "1@2.3"])
def test_most_addresses_are_plain(text: str):
    assert is_plain(text)


@pytest.mark.parametrize(
    "text",
    ["webmaster", "jo@x..example", "jo@-x.example", ".jo@x.example", "jo@x.example.", "jo@x.example\n", "jö@x.y"],
)
def test_what_only_the_parser_can_judge_is_not_plain(text: str):
    assert not is_plain(text)
