"""`new` makes what the constructor makes."""

from typing import Any
from uuid import UUID

import pytest
from django.db import models
from django.db.models.signals import ModelSignal, post_init, pre_init

from mail_outbox.models import EntryContent, OutboxEntry, Recipient, new


def values(instance: models.Model) -> dict[str, Any]:
    return {name: value for name, value in vars(instance).items() if name not in {"_state", "uuid"}}


@pytest.mark.parametrize("model", [OutboxEntry, EntryContent, Recipient])
def test_it_fills_in_the_defaults(model: type[models.Model]):
    made, expected = new(model), model()

    assert values(made) == values(expected)
    assert vars(made._state) == vars(expected._state)


def test_it_takes_values_by_attribute():
    given = {"subject": "Hello", "rank": -3, "tags": ["a"], "uuid": UUID(int=1), "resent_from_id": 7}

    made = new(OutboxEntry, **given)

    assert {name: getattr(made, name) for name in given} == given


def test_no_two_rows_share_what_is_made_anew():
    first, second = new(OutboxEntry), new(OutboxEntry)

    assert first.uuid != second.uuid
    assert first.tags is not second.tags


@pytest.mark.parametrize("signal", [pre_init, post_init])
def test_whoever_listens_for_new_instances_hears_of_them(signal: ModelSignal):
    heard: list[type[models.Model]] = []

    def listen(sender: type[models.Model], **_: Any) -> None:
        heard.append(sender)

    signal.connect(listen, sender=Recipient)
    try:
        new(Recipient, address="jane@x.example")
        new(EntryContent)
    finally:
        signal.disconnect(listen, sender=Recipient)

    assert heard == [Recipient]


def test_an_attribute_that_is_none_is_refused():
    with pytest.raises(IndexError):
        new(Recipient, adress="jane@x.example")
