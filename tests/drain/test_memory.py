"""What has been delivered is let go at once, and does not wait for Python's garbage collector."""

import gc
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import models

from mail_outbox import outbox, signals
from mail_outbox.models import OutboxEntry
from tests.support import a_message, scripted

pytestmark = pytest.mark.django_db

PATIENCE = 120.0


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
def test_an_entry_and_its_content_are_gone_once_it_is_settled():
    seen: list[weakref.ref[models.Model]] = []

    def note(*, entry: OutboxEntry, **_: Any) -> None:
        seen.extend(map(weakref.ref, (entry, entry.content)))

    signals.entry_settled.connect(note)
    try:
        with scripted("default"):
            outbox.enqueue_many(a_message() for _ in range(3))
            outbox.drain()
    finally:
        signals.entry_settled.disconnect(note)

    assert len(seen) == 6
    # The sender may be on its way out.
    until = time.monotonic() + PATIENCE
    while any(each() is not None for each in seen) and time.monotonic() < until:
        time.sleep(0.005)
    assert [each() for each in seen] == [None] * 6
