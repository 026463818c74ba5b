"""What many messages have in common is kept once, and nobody who reads them can tell."""

import copy
from typing import Any

import pytest
from anymail.message import AnymailMessage
from django.core.mail import EmailMessage, EmailMultiAlternatives
from hypothesis import given
from hypothesis import strategies as st

from mail_outbox.core.envelope import Envelope, blob_names, digest, dump, load, share
from tests.core.test_envelope import stored

LONG = "<p>Größe</p>" * 400
OTHER = "<b>andere</b>" * 400


def a_message(body: str = "Text", *, html: str | None = None, **attributes: Any) -> AnymailMessage:
    message = AnymailMessage("Hi", body, "a@x.example", ["b@x.example"])
    if html is not None:
        message.attach_alternative(html, "text/html")
    for name, value in attributes.items():
        setattr(message, name, value)
    return message


def inner(body: str) -> EmailMessage:
    return EmailMessage("Inner", body, "c@x.example", ["d@x.example"])


def comes_back(envelope: Envelope, message: EmailMessage) -> bool:
    """Tell whether what is read from the envelope is the message: attribute by attribute, of the same types."""
    return stored(dump(load(stored(envelope)))) == stored(dump(message))


PLACES = {
    "body": lambda: a_message(LONG),
    "alternative": lambda: a_message(html=LONG),
    "both": lambda: a_message(LONG, html=LONG),
    "text attachment": lambda: a_message(attachments=[("a.csv", LONG, "text/csv")]),
    "body of an attached message": lambda: a_message(attachments=[(None, inner(LONG), "message/rfc822")]),
    "data for templates": lambda: a_message(merge_global_data={"deep": [({"terms": LONG},)]}),
    "data for a provider": lambda: a_message(esp_extra={LONG: LONG}),
    "header": lambda: a_message(extra_headers={"X-Long": LONG}),
    "a set": lambda: a_message(tags={"short", LONG, OTHER}),
}


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
def test_a_long_text_that_two_messages_have_is_kept_once_wherever_it_stands(make: Any):
    messages = [make(), make()]
    before = [dump(message) for message in messages]

    shared = share(before)

    assert (
        {LONG.encode()} <= {data for each in shared for data in each.blobs.values()} <= {LONG.encode(), OTHER.encode()}
    )
    for envelope, message in zip(shared, messages, strict=True):
        assert LONG not in str(envelope.payload)
        assert blob_names(envelope.payload) == set(envelope.blobs)
        assert comes_back(envelope, message)


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
def test_the_digest_is_that_of_the_message_wherever_its_texts_are(make: Any):
    alone = dump(make())
    shared, _ = share([dump(make()), dump(make())])

    assert digest(shared.payload) == digest(stored(shared).payload) == digest(alone.payload)


def test_the_digest_tells_long_texts_apart():
    one, other = share([dump(a_message(LONG)), dump(a_message(OTHER)), dump(a_message(LONG)), dump(a_message(OTHER))])[
        :2
    ]

    assert len({digest(each.payload) for each in (one, other, dump(a_message("short")))}) == 3


def test_what_one_message_has_alone_stays_with_it():
    envelopes = [dump(a_message(LONG, html=LONG)), dump(a_message(OTHER))]

    assert share(envelopes) == envelopes


def test_what_is_stored_already_is_moved_even_where_one_message_has_it():
    shared = share([dump(a_message(LONG)), dump(a_message(LONG))])
    stored = {name for each in shared for name in each.blobs}

    [later, other] = share([dump(a_message(LONG)), dump(a_message(OTHER))], stored=stored)

    assert later == shared[0]
    assert other.blobs == {}


@pytest.mark.parametrize(
    ("text", "is_moved"),
    [("x" * 4095, False), ("x" * 4096, True), ("ä" * 2047, False), ("ä" * 2048, True), ("🐒" * 1023, False), ("🐒" * 1024, True)],
)  # fmt: skip
def test_a_text_is_long_from_four_kilobytes_on(text: str, is_moved: bool):  # noqa: FBT001
    shared = share([dump(a_message(text)), dump(a_message(text))])

    assert [bool(each.blobs) for each in shared] == [is_moved] * 2


def test_the_blobs_a_message_has_anyway_stay():
    message = a_message(LONG, attachments=[("a.bin", b"\0\xff", "application/x-bin")])

    for each in share([dump(message), dump(message)]):
        assert set(each.blobs.values()) == {b"\0\xff", LONG.encode()}
        assert load(each).attachments[0][1] == b"\0\xff"


def test_what_is_given_is_left_alone():
    envelopes = [dump(a_message(LONG, html=OTHER)) for _ in range(3)]
    before = copy.deepcopy(envelopes)

    share(envelopes)

    assert envelopes == before


def test_nothing_at_all_is_shared():
    assert share([]) == []


texts = st.sampled_from(["", "short", LONG, OTHER, LONG + OTHER])


@st.composite
def messages(draw: st.DrawFn) -> EmailMultiAlternatives:
    message = a_message(draw(texts), html=draw(st.none() | texts), metadata={draw(texts): draw(texts)})
    for text in draw(st.lists(texts, max_size=2)):
        message.attach("a.txt", text, "text/plain")
    return message


@given(st.lists(st.lists(messages(), max_size=3), max_size=3))
def test_messages_that_share_come_back_as_they_went_in(batches: list[list[EmailMultiAlternatives]]):
    names: set[str] = set()
    for batch in batches:
        shared = share([dump(message) for message in batch], stored=names)
        names |= {name for each in shared for name in each.blobs}
        for envelope, message in zip(shared, batch, strict=True):
            assert comes_back(envelope, message)
            assert digest(envelope.payload) == digest(dump(message).payload)
