"""An address in texts: found as it may be written, and never in another's."""

import pytest

from mail_outbox.core.envelope import dump
from mail_outbox.core.envelope.editing import without_recipient
from mail_outbox.core.pseudonyms import Person, pseudonym
from tests.support import a_message

JANE = Person("jane@example.com", "erased-1")


@pytest.mark.parametrize(
    "text",
    [
        "jane@example.com",
        "Jane Doe <JANE@Example.com>",
        "to jane@example.com.",
        "550 <jane@example.com>: no such user",
        "welcome:jane@example.com:1",
        '{"to": "jane@example.com"}',
        "(jane@example.com)",
        "jane@example.com.pdf",
        "Orders of Jane@example.com.csv.",
    ],
)
def test_the_address_is_found_and_masked(text):
    assert JANE.is_in(text)
    assert JANE.is_in_bytes([text.encode()])
    assert "erased-1" in JANE.masked(text)
    assert not JANE.is_in(JANE.masked(text))


@pytest.mark.parametrize(
    "text",
    [
        "mary-jane@example.com",
        "mary.jane@example.com",
        "maryjane@example.com",
        "jane@example.com.au",
        "jane@example.community",
        "jane@example.com.pdf.example",
        "jane@example.com.zip",  # a top-level domain
        "jane@example.com-shop.example",
        "jane at example.com",
        "",
    ],
)
def test_the_address_of_another_is_left_alone(text):
    assert not JANE.is_in(text)
    assert not JANE.is_in_bytes([text.encode()])
    assert JANE.masked(text) == text


@pytest.mark.parametrize("before", ["", " ", "x" * 40 + " "])
@pytest.mark.parametrize(("word", "is_hers"), [("jane@example.com", True), ("jane@example.com.au", False)])
def test_in_bytes_it_is_found_wherever_they_are_cut(before, word, is_hers):
    data = f"{before}{word} and more".encode()
    mary = f"{before}mary-{word}".encode()

    for size in range(1, len(data) + 1):
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert JANE.is_in_bytes(pieces) is is_hers
        assert not JANE.is_in_bytes(mary[start : start + size] for start in range(0, len(mary), size))
        assert JANE.is_in_bytes([*pieces[: -(-len(before + word) // size)][:-1], b"", b"; jane@example.com"])


def test_an_international_domain_has_two_spellings():
    person = Person("jane@xn--mller-kva.example", "erased-1")

    assert person.is_in("jane@müller.example")
    assert person.is_in("Jane@XN--MLLER-KVA.example")
    assert person.is_in_bytes(["jane@müller.example".encode()])


def test_it_is_found_however_deep():
    assert JANE.is_in({"a": [1, None, {"b": ["x", {"jane@example.com": 2.5}]}]})
    assert not JANE.is_in({"a": [1, None, {"b": ["x"]}]})


def test_a_pseudonym_wants_its_key():
    assert pseudonym("jane@example.com", "a") == pseudonym("jane@example.com", b"a")
    assert pseudonym("jane@example.com", "a") != pseudonym("jane@example.com", "b")
    assert "jane" not in pseudonym("jane@example.com", "a")


def test_a_recipient_is_taken_out_with_what_is_kept_for_it():
    packed = dump(a_message()).payload
    packed = {
        **packed,
        "fields": {
            **packed["fields"],
            "to": ["Jane <jane@example.com>", "bob@example.com"],
            "cc": {"type": "tuple", "items": ["jane@example.com"]},
            "merge_data": {"type": "dict", "items": [["jane@example.com", "J"], ["bob@example.com", "B"]]},
        },
    }

    edited = without_recipient(packed, lambda text: "jane@" in text)

    assert edited["fields"]["to"] == ["bob@example.com"]
    assert edited["fields"]["cc"] == {"type": "tuple", "items": []}
    assert edited["fields"]["merge_data"]["items"] == [["bob@example.com", "B"]]
    assert edited["fields"]["body"] == packed["fields"]["body"]
