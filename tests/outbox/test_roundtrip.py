"""What is enqueued is read back from the database attribute by attribute, and byte by byte."""

import copy
import email
import email.policy
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from email.message import Message
from typing import Any
from uuid import UUID

import pytest
from anymail.message import AnymailMessage, attach_inline_image
from anymail.utils import UNSET
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.test import override_settings
from django.utils.functional import lazystr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mail_outbox import outbox
from mail_outbox.models import OutboxEntry
from tests.core.test_envelope import content, same
from tests.core.test_envelope_mime import FORWARDED, ICS, MODERN, PNG, wire

pytestmark = pytest.mark.django_db

CLASSES = [EmailMessage, EmailMultiAlternatives, AnymailMessage]
ODD = "Größe ✉ 🎉 e\u0301 שלום \u2028 \uffff '\"\\ \\u0000 %s {}"
HEADERS = {
    "X-Zebra": "1",
    "Message-ID": "<1@x.example>",
    "X-Ape": "Äffchen 🐒",
    "Date": "Fri, 20 Nov 2026 12:00:00 +0000",
    "x-lower": "two  blanks",
    "List-Unsubscribe": "<https://x.example/u?a=1&b=2>, <mailto:u@x.example>",
}
VALUES = {
    "z": 1, "a": [1, [2, (3, None)]], "ü": {"deep": {"er": ("a", ["b"])}}, 7: "int key", None: "none", (1, "a"): "tuple",
    "price": Decimal("1.10"), "large": Decimal("1E+5"), "day": date(2026, 11, 20), "noon": time(12, 30),
    "moment": datetime(2026, 11, 20, 12, 30, 1, 5, tzinfo=UTC), "naive": datetime(2026, 11, 20, 12),
    "zone": datetime(2026, 11, 20, tzinfo=timezone(timedelta(hours=-3.5))), "id": UUID(int=7), "bytes": b"\0\xff",
    "safe": 2**53 - 1, "unsafe": 2**53 + 1, "huge": 10**40, "float": 0.1, "minus nought": -0.0, "big": 1e22, "one": 1.0,
    "infinite": float("inf"), "set": {"a", "b"}, "flags": [True, False], "unset": UNSET, "empty": ["", {}, [], (), b""],
    "odd": ODD, "type": {"type": "dict", "items": []}, "blob": {"blob": "no blob"},
}  # fmt: skip
ANYMAIL: dict[str, list[Any]] = {
    "esp_extra": [VALUES, {}],
    "envelope_sender": ["bounce@x.example", "Bounce <bounce@x.example>"],
    "metadata": [VALUES, {}],
    "send_at": ["in two hours"],
    "tags": [["one", ODD], ("a", "tuple"), []],
    "track_clicks": [True, False],
    "track_opens": [True, False],
    "template_id": ["welcome", 17],
    "merge_data": [{"z@x.example": VALUES, "a@x.example": {}}, {}],
    "merge_global_data": [VALUES],
    "merge_metadata": [{"z@x.example": {"id": 1}, "a@x.example": VALUES}],
    "merge_headers": [{"z@x.example": {"List-Unsubscribe": "<https://x.example>"}}],
}


def build(known: type[EmailMessage], **attributes: Any) -> Any:
    """Return a message of the class that is not ASCII wherever it need not be, with these attributes."""
    message = known(
        f"Überraschung {ODD}".replace("\u2028", ""), f"{ODD}\r\n\tlines\n\n.\nFrom here\n", "Jörg Öl <j@bücher.example>",
        ["b@x.example", '"Doe, Jane 🎉" <jane@x.example>'], cc=["Ça <c@x.example>"], bcc=["d@x.example"],
        reply_to=['"Ré, ply" <r@x.example>'], headers=dict(HEADERS),
    )  # fmt: skip
    for name, value in attributes.items():
        setattr(message, name, value)
    return message


def read_back(message: EmailMessage, **options: Any) -> Any:
    """Return the message as another process finds it."""
    return OutboxEntry.objects.get(pk=outbox.enqueue(message, **options).pk).message()


def comparable(value: object) -> object:
    """Return the value with messages and MIME parts, which equal only themselves, taken to pieces."""
    if isinstance(value, EmailMessage):
        return type(value), {name: comparable(item) for name, item in sorted(content(value).items())}
    if isinstance(value, Message):
        # A copy, because asking for the bytes gives a multipart its boundary.
        return re.sub(rb"={15}\d+==", b"=boundary=", copy.deepcopy(value).as_bytes(policy=email.policy.SMTP))
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, tuple):
        return type(value), [comparable(item) for item in value]
    return value


def assert_same(one: EmailMessage, other: EmailMessage) -> None:
    assert type(one) is type(other)
    assert content(one).keys() == content(other).keys()
    for name, value in content(other).items():
        assert same(comparable(vars(one)[name]), comparable(value)), name
    assert one.recipients() == other.recipients()


def with_everything(known: type[EmailMessage]) -> Any:
    message = build(known, **{name: values[0] for name, values in ANYMAIL.items()})
    for attach in [*ATTACHED.values(), *(ALTERNATIVES.values() if hasattr(message, "attach_alternative") else [])]:
        attach(message)
    return message


def attached_message(message: EmailMessage) -> None:
    inner = build(EmailMultiAlternatives, tags=["inner"], metadata=VALUES)
    inner.attach("innen.bin", PNG, "application/x-bin")
    message.attach("nachricht.eml", inner, "message/rfc822")


def two_of_one_name(message: EmailMessage) -> None:
    message.attach("rechnung.csv", "eins;ä\r\n", "text/csv")
    message.attach("rechnung.csv", "zwei;ö\r\n", "text/csv")


ATTACHED: dict[str, Callable[[Any], object]] = {
    "bytes": lambda message: message.attach("Käse 🧀.pdf", b"%PDF\0\xff\r\n", "application/pdf"),
    "no bytes": lambda message: message.attach("empty.bin", b"", "application/octet-stream"),
    "text": lambda message: message.attach("größe.txt", f"{ODD}\r\nline\n", "text/plain"),
    "long text": lambda message: message.attach("long.txt", ODD * 1_000, "text/plain"),
    "bytes that are no text": lambda message: message.attach("a.txt", b"\xff\xfe", "text/plain"),
    "no name": lambda message: message.attach(None, b"x", "application/x-odd+type"),
    "two of one name": two_of_one_name,
    "inline image": lambda message: attach_inline_image(message, PNG, "lögo.png", subtype="png"),
    "calendar": lambda message: message.attach("invite.ics", ICS, "text/calendar"),
    "message of Django": attached_message,
    "message as bytes": lambda message: message.attach("weiter.eml", FORWARDED, "message/rfc822"),
    "parsed message": lambda message: message.attach("x.eml", email.message_from_bytes(FORWARDED), "message/rfc822"),
    "tuple": lambda message: message.attachments.append(("tüple.bin", b"\0", "application/x-bin")),
}
ALTERNATIVES: dict[str, Callable[[Any], object]] = {
    "HTML": lambda message: message.attach_alternative(f"<p>{ODD}</p>\r\n", "text/html"),
    "AMP": lambda message: message.attach_alternative("<html ⚡4email>ü</html>", "text/x-amp-html"),
    "calendar": lambda message: message.attach_alternative(ICS, "text/calendar"),
    "bytes": lambda message: message.attach_alternative(b"\0\xff", "application/x-bin"),
}


@pytest.mark.parametrize("known", CLASSES)
def test_a_message_with_nothing_more_than_django_gives_it_comes_back(known: type[EmailMessage]):
    message = build(known)

    back = read_back(message)

    assert_same(back, message)
    assert wire(back) == wire(message)


@pytest.mark.parametrize("known", CLASSES)
def test_a_message_with_everything_comes_back(known: type[EmailMessage]):
    message = with_everything(known)

    back = read_back(message)

    assert_same(back, message)
    assert wire(back) == wire(message)


@pytest.mark.parametrize("known", CLASSES)
def test_a_batch_of_messages_with_everything_comes_back(known: type[EmailMessage]):
    messages = [with_everything(known), build(known), with_everything(known)]

    keys = [entry.pk for entry in outbox.enqueue_many(messages)]

    for key, message in zip(keys, messages, strict=True):
        assert_same(OutboxEntry.objects.get(pk=key).message(), message)


@pytest.mark.parametrize("attach", ATTACHED.values(), ids=ATTACHED)
@pytest.mark.parametrize("known", CLASSES)
def test_an_attachment_comes_back(known: type[EmailMessage], attach: Callable[[Any], object]):
    message = build(known)
    attach(message)

    back = read_back(message)

    assert_same(back, message)
    assert wire(back) == wire(message)


@pytest.mark.parametrize("attach", ALTERNATIVES.values(), ids=ALTERNATIVES)
@pytest.mark.parametrize("known", CLASSES[1:])
def test_an_alternative_comes_back(known: type[EmailMessage], attach: Callable[[Any], object]):
    message = build(known)
    attach(message)

    back = read_back(message)

    assert_same(back, message)
    assert wire(back) == wire(message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}={value!r}"[:40])
        for name, values in ANYMAIL.items()
        for value in [*values, None, UNSET]
    ],
)
@pytest.mark.parametrize("known", CLASSES)
def test_an_attribute_of_anymail_comes_back(known: type[EmailMessage], name: str, value: object):
    back = read_back(build(known, **{name: value}))

    assert same(vars(back)[name], value)


@pytest.mark.parametrize("known", CLASSES)
@pytest.mark.parametrize("name", ANYMAIL)
def test_what_is_absent_stays_absent(known: type[EmailMessage], name: str):
    message = build(known)
    vars(message).pop(name, None)

    assert name not in vars(read_back(message))


@pytest.mark.parametrize("known", CLASSES)
@pytest.mark.parametrize("name", ["subject", "body", "from_email", "reply_to"])
def test_none_is_left_to_the_template(known: type[EmailMessage], name: str):
    with override_settings(DEFAULT_FROM_EMAIL="default@x.example"):
        back = read_back(build(known, template_id="welcome", **{name: None}))

    assert vars(back)[name] is None


@pytest.mark.parametrize("known", CLASSES)
@pytest.mark.parametrize("encoding", [None, "utf-8", "iso-8859-1"])
@pytest.mark.parametrize("subtype", ["plain", "html"])
def test_a_body_keeps_its_subtype_and_its_encoding(known: type[EmailMessage], encoding: str | None, subtype: str):
    message = build(known, encoding=encoding, content_subtype=subtype, body="<p>Größe</p>\n", subject="Größe")
    # Not every character there is: Django 5.2 encodes the headers likewise.
    message.to, message.extra_headers = ["Jö <b@x.example>"], {**HEADERS, "X-Ape": "Äffchen"}

    back = read_back(message)

    assert_same(back, message)
    assert wire(back) == wire(message)


@pytest.mark.skipif(MODERN, reason="Django 6.0 refuses them")
def test_the_subtypes_that_django_gave_up_come_back_where_it_takes_them():
    message = build(EmailMultiAlternatives, mixed_subtype="related", alternative_subtype="mixed")
    for attach in (ATTACHED["bytes"], ALTERNATIVES["HTML"]):
        attach(message)

    back = read_back(message)

    assert_same(back, message)
    assert wire(back) == wire(message)


@pytest.mark.parametrize("known", CLASSES)
def test_lazy_texts_come_back_as_texts(known: type[EmailMessage]):
    lazy = build(
        known, subject=lazystr("Größe"), body=lazystr("Käse"), to=[lazystr("b@x.example")], tags=[lazystr("ü")]
    )
    plain = build(known, subject="Größe", body="Käse", to=["b@x.example"], tags=["ü"])

    assert_same(read_back(lazy), plain)


@pytest.mark.parametrize("known", CLASSES)
def test_numbers_in_headers_come_back_as_texts(known: type[EmailMessage]):
    message = build(known, extra_headers={**HEADERS, "X-Count": 7, "X-Price": Decimal("1.10")})

    assert list(read_back(message).extra_headers.items())[-2:] == [("X-Count", "7"), ("X-Price", "1.10")]


@pytest.mark.parametrize("known", CLASSES)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(datetime(2099, 7, 1, 12, tzinfo=UTC), id="datetime"),
        pytest.param(datetime(2099, 7, 1, 12, tzinfo=UTC).timestamp(), id="timestamp"),
    ],
)
def test_a_moment_in_send_at_becomes_the_entrys(known: type[EmailMessage], value: Any):
    entry = OutboxEntry.objects.get(pk=outbox.enqueue(build(known, send_at=value)).pk)

    assert entry.due_at == datetime(2099, 7, 1, 12, tzinfo=UTC)
    assert "send_at" not in vars(entry.message())


@pytest.mark.parametrize("known", CLASSES)
def test_the_message_that_was_given_is_left_alone(known: type[EmailMessage]):
    message = with_everything(known)
    before = comparable(message)

    outbox.enqueue(message)

    assert same(comparable(message), before)


@pytest.mark.parametrize("known", CLASSES)
def test_a_mailer_is_given_what_was_enqueued(known: type[EmailMessage], provider: Any):
    message = with_everything(known)
    outbox.enqueue(message)

    outbox.drain()

    [accepted] = provider.accepted
    for name in ("message", "recipients"):  # what the outbox puts in the way of the methods
        vars(accepted).pop(name, None)
    assert_same(accepted, message)
    assert wire(accepted) == wire(message)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXTS
    | st.binary(max_size=20)
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.uuids()
    | st.just(UNSET)
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=3)
    return inner | lists | lists.map(tuple) | st.dictionaries(TEXTS | st.integers(), inner, max_size=3)


ANYTHING = nested(nested(LEAVES))


# The row of each example stays until the test ends, and nothing but its own row is read.
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(CLASSES),
    TEXTS,
    st.dictionaries(st.sampled_from(sorted(ANYMAIL.keys() - {"send_at", "envelope_sender", "template_id"})), ANYTHING),
    st.lists(TEXTS | st.binary(max_size=50), max_size=2),
)
def test_any_message_comes_back(known: type[EmailMessage], body: str, attributes: dict[str, Any], files: list[Any]):
    message = build(known, body=body, **attributes)
    for file in files:
        message.attach("datei", file, "text/plain" if isinstance(file, str) else "application/x-bin")

    back = read_back(message)

    assert_same(back, message)
    assert wire(back) == wire(message)
