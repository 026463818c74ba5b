"""Rows as older and newer Djangos wrote them: what is in a database outlives the Django that put it there."""

import copy
import email
import email.policy
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import django
import pytest
from anymail.message import AnymailMessage
from anymail.utils import UNSET, Attachment
from hypothesis import given
from hypothesis import strategies as st

from mail_outbox.core.envelope import Envelope, blob_names, load
from mail_outbox.core.errors import UnreadableEnvelope

BLOBS = {"06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8": b"\x00\xff"}
UNSET_ROW = {"type": "unset"}


def row(*, modern: bool, headers: list[list[str]]) -> dict[str, Any]:
    """Return a row of version 1; how an inline image looks in it is up to the Django that wrote it."""
    image = {
        "type": "mime",
        "modern": modern,
        "headers": [
            *headers,
            ["Content-Transfer-Encoding", "base64"],
            ["Content-Disposition", "inline; filename*=utf-8''L%C3%B6go.png"],
            ["Content-ID", "<logo@inline>"],
        ],
        "payload": "iVBORw0K\n",
        "preamble": None,
        "epilogue": None,
        "default_type": "text/plain",
    }
    [blob] = BLOBS
    fields = {
        "subject": "Grüße",
        "body": "Text",
        "from_email": "Shop <shop@x.example>",
        "to": ["b@x.example"],
        "cc": ["c@x.example"],
        "bcc": [],
        "reply_to": [],
        "extra_headers": {"items": [["X-Zebra", "1"], ["X-Ape", "2"], ["Message-ID", "<1@x.example>"]], "type": "dict"},
        "alternatives": [{"items": ["<p>Grüße</p>", "text/html"], "type": "alternative"}],
        "attachments": [
            image,
            {"items": ["a.bin", {"blob": blob, "type": "bytes"}, "application/x-bin"], "type": "attachment"},
            {"items": ["invite.ics", "BEGIN:VCALENDAR\r\n", "text/calendar"], "type": "attachment"},
        ],
        "metadata": {"items": [["order", 7], ["price", {"text": "1.10", "type": "decimal"}]], "type": "dict"},
        "send_at": {"text": "2026-11-20T12:00:00+00:00", "type": "datetime"},
        **dict.fromkeys(("envelope_sender", "esp_extra", "merge_data", "merge_global_data"), UNSET_ROW),
        **dict.fromkeys(("merge_headers", "merge_metadata", "tags", "template_id"), UNSET_ROW),
        **dict.fromkeys(("track_clicks", "track_opens"), UNSET_ROW),
    }
    return {"version": 1, "class": "anymail.message.AnymailMessage", "fields": fields}


ROWS = [
    pytest.param(row(modern=False, headers=[["Content-Type", "image/png"], ["MIME-Version", "1.0"]]), id="Django 5.2"),
    pytest.param(row(modern=True, headers=[["Content-Type", "image/png"]]), id="Django 6.1"),
]


@pytest.mark.parametrize("payload", ROWS)
def test_a_row_of_version_1_is_read_for_ever(payload: dict[str, Any]):
    message: Any = load(Envelope(payload, BLOBS))

    assert type(message) is AnymailMessage
    assert (message.subject, message.to, message.cc) == ("Grüße", ["b@x.example"], ["c@x.example"])
    assert list(message.extra_headers) == ["X-Zebra", "X-Ape", "Message-ID"]
    assert message.metadata == {"order": 7, "price": Decimal("1.10")}
    assert message.send_at == datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert message.tags is UNSET
    assert message.attachments[1] == ("a.bin", b"\x00\xff", "application/x-bin")
    assert message.attachments[2].content == "BEGIN:VCALENDAR\r\n"


@pytest.mark.parametrize("payload", ROWS)
def test_a_row_of_any_django_can_be_sent_by_this_one(payload: dict[str, Any]):
    message = load(Envelope(payload, BLOBS))

    sent = email.message_from_bytes(message.message().as_bytes(), policy=email.policy.default)

    bodies, image, binary, calendar = sent.iter_parts()
    assert [part.get_content_type() for part in bodies.iter_parts()] == ["text/plain", "text/html"]
    assert (image["Content-ID"], image.get_filename()) == ("<logo@inline>", "Lögo.png")
    assert (image.get_content(), binary.get_content()) == (b"\x89PNG\r\n", b"\x00\xff")
    assert calendar.get_content_type() == "text/calendar"


@pytest.mark.parametrize("payload", ROWS)
def test_anymail_finds_the_inline_image_of_a_row_of_any_django(payload: dict[str, Any]):
    image = Attachment(load(Envelope(payload, BLOBS)).attachments[0])

    assert (image.inline, image.cid, image.name, image.content) == (True, "logo@inline", "Lögo.png", b"\x89PNG\r\n")


@pytest.mark.skipif(django.VERSION < (6, 0), reason="Django 5.2 takes it")
def test_what_django_gave_up_is_not_dropped_silently():
    payload = row(modern=False, headers=[])
    payload["fields"]["mixed_subtype"] = "related"

    with pytest.raises(UnreadableEnvelope, match="'mixed_subtype', which this version of Django no longer supports"):
        load(Envelope(payload, BLOBS))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(["mime", "dict", "bytes", "message", "set"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "items", "blob", "text", "class"]), inner),
    max_leaves=10,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """List every place in the payload as its container and its key or index."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@given(st.data(), json_values)
def test_damage_anywhere_raises_unreadable_envelope_or_nothing(data: st.DataObject, damage: Any):
    payload = copy.deepcopy(row(modern=True, headers=[["Content-Type", "image/png"]]))
    container, key = data.draw(st.sampled_from(places(payload)))
    container[key] = damage

    with suppress(UnreadableEnvelope):
        load(Envelope(payload, BLOBS))
    blob_names(payload)
