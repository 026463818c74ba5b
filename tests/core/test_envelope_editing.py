"""The recipients in a payload are found in whatever the caller kept them, and damage is no crash."""

from typing import Any

import pytest
from django.core.mail import EmailMessage

from mail_outbox.core.envelope import dump
from mail_outbox.core.envelope.editing import recipients_of


@pytest.mark.parametrize("kind", [list, tuple, set])
def test_recipients_of_all_roles_are_found(kind: Any):
    message = EmailMessage("Hi", "Text", "a@x.example", ["b@x.example"], cc=["C <c@x.example>"], bcc=["bcc@x.example"])
    message.to, message.cc = kind(message.to), kind(message.cc)

    assert list(recipients_of(dump(message).payload)) == ["b@x.example", "C <c@x.example>", "bcc@x.example"]


@pytest.mark.parametrize(
    "payload",
    [
        ["nonsense"],
        "nonsense",
        None,
        {},
        {"fields": None},
        {"fields": []},
        {"fields": {}},
        {"fields": {"to": 7, "cc": [None, {}], "bcc": {"items": 1}}},
    ],
)
def test_in_what_is_damaged_there_are_none(payload: Any):
    assert list(recipients_of(payload)) == []
