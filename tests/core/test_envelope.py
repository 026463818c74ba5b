import json
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from email.charset import QP, Charset
from enum import Enum, StrEnum
from io import BytesIO
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from anymail.message import AnymailMessage, AnymailStatus
from anymail.utils import UNSET
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.utils import timezone as django_timezone
from django.utils import translation
from django.utils.functional import SimpleLazyObject, lazystr
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy

from mail_outbox.core.envelope import VERSION, Envelope, blob_names, digest, dump, load
from mail_outbox.core.envelope.classes import LIVE
from mail_outbox.core.errors import UnreadableEnvelope, UnserializableMessage


class SignedMessage(EmailMessage):
    """A project's own class, whose __init__ takes what Django's does not."""

    def __init__(self, key: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.key = key


class Colour(StrEnum):
    RED = "red"


class OldColour(str, Enum):  # noqa: UP042 (people still write them so)
    RED = "red"


def stored(envelope: Envelope) -> Envelope:
    """Return the envelope as PostgreSQL's jsonb gives it back: the keys of every object sorted."""
    return Envelope(json.loads(json.dumps(envelope.payload, sort_keys=True, allow_nan=False)), dict(envelope.blobs))


def there_and_back(message: EmailMessage, **options: Any) -> Any:
    """Return the message after a stay in the database."""
    return load(stored(dump(message, **options)), **options)


def content(message: EmailMessage) -> dict[str, Any]:
    """Return the attributes of the message that are no live objects."""
    return {name: value for name, value in vars(message).items() if name not in LIVE}


def same(one: object, other: object) -> bool:
    """Tell whether the values are equal and of the same types all the way down; dicts in the same order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def with_metadata(value: object) -> AnymailMessage:
    return AnymailMessage(from_email="a@x.example", to=["b@x.example"], metadata={"value": value})


MESSAGES = [
    pytest.param(EmailMessage("Hi", "Text", "a@x.example", ["b@x.example"]), id="plain"),
    pytest.param(
        EmailMessage(
            "Hi", "Text\r\n\tlines\n", "Jö <a@x.example>", ["b@x.example"],
            cc=["c@x.example"], bcc=["d@x.example"], reply_to=["r@x.example"],
            headers={"X-Zebra": "1", "X-Ape": "2", "Message-ID": "<1@x.example>"},
        ),
        id="everything Django's __init__ takes",
    ),
    pytest.param(
        EmailMultiAlternatives(
            "Hi", "Text", "a@x.example", ["b@x.example"],
            alternatives=[("<p>Hi</p>", "text/html"), ("<html amp4email>", "text/x-amp-html"), (b"\0\xff", "image/x")],
        ),
        id="alternatives",
    ),
    pytest.param(
        AnymailMessage(
            subject="Hi", body="Text", from_email="a@x.example", to=["b@x.example"],
            esp_extra={"o:tag": ["z", "a"], "b": {"c": None}}, envelope_sender="bounce@x.example",
            metadata={"order": 7, 1: "int key", "price": Decimal("1.10")}, tags=("one", "two"),
            send_at=datetime(2026, 11, 20, 12, tzinfo=UTC), track_clicks=True, track_opens=False, template_id=17,
            merge_data={"z@x.example": {"name": "Z"}, "a@x.example": {"name": "A"}}, merge_global_data={"shop": "S"},
            merge_metadata={"z@x.example": {"id": 1}}, merge_headers={"z@x.example": {"List-Unsubscribe": "<https://x>"}},
        ),
        id="everything Anymail has",
    ),
]  # fmt: skip

VALUES = [
    None, True, False, 0, -1, 2**53, -(10**30), 1.0, 0.1, 1e22, -0.0, float("inf"), "", "Jö ✉ \u2028 'quotes' \\u0000",
    Decimal("1.10"), Decimal("1E+5"), date(2026, 11, 20), time(12, 30), datetime(2026, 11, 20, 12, 30, 1, 5),
    datetime(2026, 11, 20, 12, tzinfo=UTC), datetime(2026, 11, 20, 12, tzinfo=timezone(timedelta(hours=-3.5))),
    UUID(int=7), b"\0\xff", b"", [], (), {}, set(), [1, [2, (3,)]], ("a", ["b"]), {"a", "b"}, frozenset({1, 2}),
    {"z": 1, "a": {"y": [], "b": ()}}, {1: "int", None: "none", (1, "a"): "tuple", date(2026, 1, 1): "date"},
    {"type": "dict", "items": 1}, {"blob": "no blob"}, UNSET, [UNSET],
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_comes_back_as_it_went_in(message: EmailMessage):
    back = there_and_back(message)

    assert type(back) is type(message)
    assert same(dict(sorted(content(back).items())), dict(sorted(content(message).items())))


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_keeps_its_type(value: object):
    back = there_and_back(with_metadata(value))

    assert same(back.metadata, {"value": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(mark_safe("safe"), "safe", id="SafeString"),
        pytest.param(lazystr("lazy"), "lazy", id="lazy"),
        pytest.param(SimpleLazyObject(lambda: "lazy"), "lazy", id="lazy object"),
        pytest.param(SimpleLazyObject(lambda: True), True, id="lazy bool"),
        pytest.param(SimpleLazyObject(lambda: {"a": 1}), {"a": 1}, id="lazy dict"),
        pytest.param(Colour.RED, "red", id="StrEnum"),
        pytest.param(OldColour.RED, "red", id="str and Enum"),
        pytest.param(bytearray(b"b"), b"b", id="bytearray"),
        pytest.param(memoryview(b"b"), b"b", id="memoryview"),
        pytest.param(OrderedDict(b=1, a=2), {"b": 1, "a": 2}, id="OrderedDict"),
        pytest.param(defaultdict(int, b=1), {"b": 1}, id="defaultdict"),
        pytest.param(
            datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
            datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2))),
            id="named zone",
        ),
    ],
)
def test_a_value_that_no_mailer_can_tell_from_a_plain_one_comes_back_plain(value: object, expected: object):
    back = there_and_back(with_metadata(value))

    assert same(back.metadata, {"value": expected})


def test_absent_unset_and_none_stay_apart():
    message = EmailMessage(from_email="a@x.example")
    message.tags = None
    message.metadata = UNSET

    back = there_and_back(message)

    assert back.tags is None
    assert back.metadata is UNSET
    assert not hasattr(back, "send_at")


@pytest.mark.parametrize("name", ["from_email", "body", "subject", "reply_to", "cc"])
@pytest.mark.parametrize("value", [None, "", [], "text"], ids=repr)
def test_no_default_replaces_what_the_caller_assigned(name: str, value: object):
    message = EmailMessage("Hi", "Text", "a@x.example", ["b@x.example"])
    setattr(message, name, value)

    assert same(getattr(there_and_back(message), name), value)


def test_an_attribute_that_was_deleted_stays_away():
    message = EmailMessage(from_email="a@x.example")
    del message.reply_to

    assert not hasattr(there_and_back(message), "reply_to")


def test_a_loaded_message_has_the_live_attributes_of_a_new_one():
    fresh = AnymailMessage(from_email="a@x.example")

    back = there_and_back(fresh)

    assert vars(back).keys() == vars(fresh).keys()
    assert isinstance(back.anymail_status, AnymailStatus)


def test_what_an_earlier_attempt_left_on_the_message_is_no_content():
    message = AnymailMessage(from_email="a@x.example")
    message.anymail_status.set_recipient_status({})
    message.anymail_test_params = object()

    back = there_and_back(message)

    assert back.anymail_status.status is None
    assert not hasattr(back, "anymail_test_params")


def test_a_message_out_of_djangos_test_outbox_can_be_sent_again():
    message = EmailMessage("Hello", "Text", "a@x.example", ["b@x.example"])
    message.sent_using = "default"  # type: ignore[attr-defined]

    assert not hasattr(there_and_back(message), "sent_using")


def test_a_connection_is_no_content():
    message = EmailMessage(from_email="a@x.example")
    attribute = "_connection" if hasattr(message, "_connection") else "connection"
    setattr(message, attribute, object())

    assert getattr(there_and_back(message), attribute) is None


def test_content_subtype_and_encoding_are_kept():
    message = EmailMessage(body="<p>ü</p>", from_email="a@x.example")
    message.content_subtype = "html"
    message.encoding = "iso-8859-1"

    back = there_and_back(message)

    assert (back.content_subtype, back.encoding) == ("html", "iso-8859-1")


def test_a_charset_comes_back_with_its_encodings():
    charset = Charset("utf-8")
    charset.body_encoding = QP
    charset.header_encoding = None
    message = EmailMessage(from_email="a@x.example")
    message.encoding = charset

    assert vars(there_and_back(message).encoding) == vars(charset)


def test_lazy_texts_are_resolved_in_the_language_of_the_caller():
    message = EmailMultiAlternatives(gettext_lazy("Yes"), gettext_lazy("No"), "a@x.example", [lazystr("b@x.example")])
    message.extra_headers = {"X-Answer": gettext_lazy("Yes")}
    message.attach_alternative(gettext_lazy("Yes"), "text/html")
    message.metadata = {"answer": gettext_lazy("Yes")}

    with translation.override("de"):
        envelope = dump(message)
    with translation.override("fr"):
        back = load(envelope)

    assert (back.subject, back.body, back.to) == ("Ja", "Nein", ["b@x.example"])
    assert back.extra_headers == {"X-Answer": "Ja"}
    assert back.alternatives[0].content == "Ja"
    assert back.metadata == {"answer": "Ja"}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(datetime(2026, 7, 1, 12), id="naive datetime"),
        pytest.param(datetime(2026, 7, 1, 10, tzinfo=UTC), id="aware datetime"),
    ],
)
def test_send_at_means_the_zone_of_the_caller(value: datetime):
    message = AnymailMessage(from_email="a@x.example", send_at=value)

    with django_timezone.override("Europe/Berlin"):
        envelope = dump(message)
    with django_timezone.override("Asia/Tokyo"):
        back = load(envelope)

    assert back.send_at == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert django_timezone.is_aware(back.send_at)


def test_a_date_in_send_at_means_midnight_where_the_caller_is():
    message = AnymailMessage(from_email="a@x.example", send_at=date(2026, 7, 1))

    with django_timezone.override("Europe/Berlin"):
        back = there_and_back(message)

    assert same(back.send_at.astimezone(UTC), datetime(2026, 6, 30, 22, tzinfo=UTC))


@pytest.mark.parametrize("value", [1_800_000_000, 1_800_000_000.5, None, UNSET, "tomorrow"], ids=repr)
def test_send_at_that_is_no_date_stays_as_it_is(value: object):
    assert same(there_and_back(AnymailMessage(from_email="a@x.example", send_at=value)).send_at, value)


def test_header_values_become_texts_and_keep_their_order():
    message = EmailMessage(from_email="a@x.example", headers={"X-Z": 7, "X-A": 1.5, "x-m": "m", "X-B": True})

    back = there_and_back(message)

    assert list(back.extra_headers.items()) == [("X-Z", "7"), ("X-A", "1.5"), ("x-m", "m"), ("X-B", "True")]


def test_a_date_header_that_is_a_datetime_stays_one():
    moment = datetime(2026, 11, 20, 12, tzinfo=UTC)

    assert same(
        there_and_back(EmailMessage(from_email="a@x.example", headers={"Date": moment})).extra_headers["Date"], moment
    )


def test_a_projects_own_class_comes_back_with_its_own_attributes():
    classes = {"shop.mail.SignedMessage": SignedMessage}
    message = SignedMessage(key="k", subject="Hi", from_email="a@x.example")

    back = there_and_back(message, classes=classes)

    assert type(back) is SignedMessage
    assert (back.key, back.subject) == ("k", "Hi")


def test_a_class_that_is_not_listed_is_refused_by_name():
    with pytest.raises(UnserializableMessage, match=r"SignedMessage cannot be stored.*MESSAGE_CLASSES"):
        dump(SignedMessage(key="k", from_email="a@x.example"))


def test_a_listed_name_cannot_stand_for_a_class_of_django():
    classes = {"django.core.mail.EmailMessage": SignedMessage}

    back = there_and_back(EmailMessage(from_email="a@x.example"), classes=classes)

    assert type(back) is EmailMessage


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        pytest.param("campaign", "spring", "'campaign'", id="unknown attribute"),
        pytest.param("anymail_test_response", object(), "anymail_test_response", id="an answer that is no value"),
        pytest.param("subject", "a\0b", "subject contains a NUL", id="NUL"),
        pytest.param("body", "a\ud800b", "body contains half of a surrogate pair", id="surrogate"),
        pytest.param("to", ["a@x.example", "b\0"], r"to\[1\] contains a NUL", id="NUL in an address"),
        pytest.param("extra_headers", {"X-A": "\0"}, r"extra_headers\['X-A'\] contains a NUL", id="NUL in a header"),
        pytest.param("extra_headers", {"X\0": "a"}, "a key of extra_headers contains a NUL", id="NUL in a header name"),
        pytest.param("metadata", {"a": [object()]}, r"metadata\['a'\]\[0\] is of class builtins.object", id="object"),
        pytest.param("metadata", {"a": iter([])}, r"metadata\['a'\]", id="iterator"),
        pytest.param("tags", (tag for tag in "ab"), "tags is of class builtins.generator", id="generator"),
        pytest.param("metadata", {"a": 10**5000}, r"metadata\['a'\] is of class builtins.int", id="endless integer"),
        pytest.param(
            "metadata", {"a": timedelta(1)}, r"metadata\['a'\] is of class datetime.timedelta", id="timedelta"
        ),
        pytest.param("attachments", [("a", BytesIO(b"x"), "a/b")], r"attachments\[0\]\[1\] is of class _io", id="file"),
        pytest.param("attachments", [BytesIO(b"x")], r"attachments\[0\] is of class _io", id="bare file"),
        pytest.param("merge_data", {"a": {"b": str}}, r"merge_data\['a'\]\['b'\]", id="class"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(name: str, value: object, said: str):
    message = EmailMessage("Hi", "Text", "a@x.example", ["b@x.example"])
    setattr(message, name, value)

    with pytest.raises(UnserializableMessage, match=said):
        dump(message)


def test_an_attribute_of_an_attached_message_is_named_with_its_way():
    inner = EmailMessage(from_email="a@x.example")
    inner.metadata = {"a": object()}
    message = EmailMessage(from_email="a@x.example", attachments=[("m.eml", inner, "message/rfc822")])

    with pytest.raises(UnserializableMessage, match=r"attachments\[0\]\[1\]\.metadata\['a'\]"):
        dump(message)


def test_a_value_that_contains_itself_is_refused():
    endless: dict[str, object] = {}
    endless["self"] = endless

    with pytest.raises(UnserializableMessage, match="metadata contains itself"):
        dump(with_metadata(endless))


def test_a_payload_is_never_deeper_than_mariadb_takes():
    def depth(value: object) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    def nested(levels: int) -> AnymailMessage:
        value: object = "leaf"
        for _ in range(levels):
            value = {"level": value}
        return with_metadata(value)

    assert depth(dump(nested(8)).payload) <= 32
    with pytest.raises(UnserializableMessage, match="nested too deeply"):
        dump(nested(9))


def test_six_levels_of_nesting_are_fine():
    value = {"a": [{"b": {"c": [{"d": {"e": {"f": (1, 2)}}}]}}]}

    assert same(there_and_back(with_metadata(value)).metadata, {"value": value})


@pytest.mark.parametrize("message", MESSAGES)
def test_the_payload_is_strict_json_with_texts_that_any_database_takes(message: EmailMessage):
    text = json.dumps(dump(message).payload, allow_nan=False, ensure_ascii=False)

    text.encode()
    assert "\0" not in text
    assert "\\u0000" not in text


@pytest.mark.parametrize("message", MESSAGES)
def test_dumping_leaves_the_message_alone(message: EmailMessage):
    before = repr(content(message))

    dump(message)

    assert repr(content(message)) == before


def test_the_digest_does_not_depend_on_the_order_of_keys():
    payload = dump(MESSAGES[-1].values[0]).payload

    assert digest(payload) == digest(json.loads(json.dumps(payload, sort_keys=True)))


def test_the_digest_tells_messages_apart():
    digests = {
        digest(dump(EmailMessage("Hi", body, "a@x.example", headers=headers)).payload)
        for body in ("one", "two")
        for headers in ({"X-A": "1", "X-B": "2"}, {"X-B": "2", "X-A": "1"})
    }

    assert len(digests) == 4


def test_the_digest_of_a_set_is_the_same_in_every_process():
    def packed(tags: set[str]) -> Any:
        return dump(AnymailMessage(from_email="a@x.example", tags=tags)).payload

    assert packed({"a", "b", "c"})["fields"]["tags"]["items"] == ["a", "b", "c"]


def test_blob_names_lists_what_the_payload_refers_to():
    message = EmailMessage(from_email="a@x.example", attachments=[("a.bin", b"one", None), ("b.bin", b"two", None)])
    inner = EmailMessage(from_email="a@x.example", attachments=[("c.bin", b"three", None)])
    message.attach("m.eml", inner, "message/rfc822")
    message.metadata = {"blob": "no blob"}
    envelope = dump(message)

    assert blob_names(envelope.payload) == set(envelope.blobs)
    assert sorted(envelope.blobs.values()) == [b"one", b"three", b"two"]


def broken(**changes: object) -> dict[str, Any]:
    payload: dict[str, Any] = dict(dump(with_metadata({"a": 1})).payload)
    payload["fields"] = payload["fields"] | changes.pop("fields", {})  # type: ignore[operator]
    return payload | changes


DAMAGED = [
    pytest.param(None, id="null"),
    pytest.param([], id="list"),
    pytest.param("text", id="text"),
    pytest.param({}, id="empty"),
    pytest.param({"version": VERSION}, id="no class"),
    pytest.param(broken(version=VERSION + 1), id="newer version"),
    pytest.param(broken(version="1"), id="version as a text"),
    pytest.param(broken(version=0), id="version nought"),
    pytest.param(broken(version=None), id="no version"),
    pytest.param({"version": VERSION, "class": "django.core.mail.EmailMessage"}, id="no fields"),
    pytest.param({"version": VERSION, "class": "django.core.mail.EmailMessage", "fields": []}, id="fields as a list"),
    pytest.param(broken(**{"class": "os.system"}), id="a dotted path"),
    pytest.param(broken(**{"class": "builtins.dict"}), id="a class that is no message"),
    pytest.param(broken(**{"class": ["list"]}), id="class as a list"),
    pytest.param(broken(fields={"__class__": "x"}), id="dunder"),
    pytest.param(broken(fields={"send": "x"}), id="method"),
    pytest.param(broken(fields={"connection": "x"}), id="connection"),
    pytest.param(broken(fields={"anymail_status": "x"}), id="live attribute"),
    pytest.param(broken(fields={"tags": {}}), id="no type"),
    pytest.param(broken(fields={"tags": {"type": "pickle", "text": "x"}}), id="unknown type"),
    pytest.param(broken(fields={"tags": {"type": ["x"]}}), id="type as a list"),
    pytest.param(broken(fields={"tags": {"type": "decimal", "text": "x"}}), id="no decimal"),
    pytest.param(broken(fields={"tags": {"type": "decimal", "text": None}}), id="decimal of null"),
    pytest.param(broken(fields={"tags": {"type": "int", "text": "9" * 5000}}), id="huge number"),
    pytest.param(broken(fields={"tags": {"type": "datetime", "text": "yesterday"}}), id="no datetime"),
    pytest.param(broken(fields={"tags": {"type": "dict", "items": [[1]]}}), id="half a pair"),
    pytest.param(broken(fields={"tags": {"type": "dict", "items": [[[], 1]]}}), id="a list as a key"),
    pytest.param(broken(fields={"tags": {"type": "set", "items": [[]]}}), id="a list in a set"),
    pytest.param(broken(fields={"tags": {"type": "attachment", "items": []}}), id="empty attachment"),
    pytest.param(broken(fields={"tags": {"type": "bytes", "blob": "0" * 64}}), id="missing blob"),
    pytest.param(broken(fields={"tags": {"type": "bytes", "blob": []}}), id="blob as a list"),
    pytest.param(broken(fields={"tags": {"type": "bytes"}}), id="no blob"),
    pytest.param(broken(fields={"tags": {"type": "charset", "name": "ü"}}), id="no charset"),
    pytest.param(broken(fields={"tags": {"type": "mime", "headers": 1}}), id="no part"),
    pytest.param(broken(fields={"tags": {"type": "message", "class": "x"}}), id="no message"),
]


@pytest.mark.parametrize("payload", DAMAGED)
def test_a_bad_payload_raises_unreadable_envelope_and_nothing_else(payload: Any):
    with pytest.raises(UnreadableEnvelope):
        load(Envelope(payload, {}))


def test_a_payload_nested_without_end_is_unreadable():
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]

    with pytest.raises(UnreadableEnvelope):
        load(Envelope(broken(fields={"tags": nested}), {}))


def test_a_newer_version_says_what_to_do():
    with pytest.raises(UnreadableEnvelope, match=f"version {VERSION + 1}, this code reads up to {VERSION}. Deploy"):
        load(Envelope(broken(version=VERSION + 1), {}))


def test_an_unknown_class_is_named():
    envelope = dump(SignedMessage(key="k", from_email="a@x.example"), classes={"shop.SignedMessage": SignedMessage})

    with pytest.raises(UnreadableEnvelope, match=r"'shop.SignedMessage'.*MESSAGE_CLASSES"):
        load(envelope)


@pytest.mark.parametrize(
    "change",
    [pytest.param(lambda blobs: {}, id="missing"), pytest.param(lambda b: dict.fromkeys(b, b"x"), id="damaged")],
)
def test_a_blob_that_is_not_what_it_was_is_named(change: Any, request: pytest.FixtureRequest):
    envelope = dump(EmailMessage(from_email="a@x.example", attachments=[("a.bin", b"one", None)]))
    blobs: Mapping[str, bytes] = change(envelope.blobs)

    with pytest.raises(UnreadableEnvelope, match=f"Blob '{next(iter(envelope.blobs))}' .* {request.node.callspec.id}"):
        load(Envelope(envelope.payload, blobs))


def test_texts_that_were_safe_are_plain_afterwards():
    assert type(there_and_back(EmailMessage(body=SafeString("<b>"), from_email="a@x.example")).body) is str
