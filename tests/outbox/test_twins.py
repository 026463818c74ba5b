"""A verb called from a coroutine says which of its twin to await."""

import asyncio
import inspect
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import SynchronousOnlyOperation

from mail_outbox import outbox
from mail_outbox.models import OutboxEntry
from tests.support import a_message

TO = "jane@example.com"
TWINS = sorted(name for name in outbox.__all__ if name[0] == "a" and name[1:] in outbox.__all__)
CALLS: dict[str, Callable[[Callable[..., Any], OutboxEntry], Any]] = {
    "adopt": lambda verb, entry: verb(),
    "cancel": lambda verb, entry: verb(entry),
    "change_mailer": lambda verb, entry: verb(entry, using="bulk"),
    "drain": lambda verb, entry: verb(),
    "enqueue": lambda verb, entry: verb(a_message()),
    "enqueue_many": lambda verb, entry: verb([a_message()]),
    "enqueue_template": lambda verb, entry: verb("welcome", [TO]),
    "erase": lambda verb, entry: verb(TO),
    "health": lambda verb, entry: verb(),
    "hold": lambda verb, entry: verb(entry, reason="to see"),
    "mark_sent": lambda verb, entry: verb(entry),
    "pause": lambda verb, entry: verb(),
    "prune": lambda verb, entry: verb(),
    "quarantine": lambda verb, entry: verb(timedelta(hours=1)),
    "release": lambda verb, entry: verb(entry),
    "reschedule": lambda verb, entry: verb(entry, send_at=timedelta(hours=1)),
    "resend": lambda verb, entry: verb(entry),
    "resume": lambda verb, entry: verb(),
    "retry": lambda verb, entry: verb(entry),
    "rotate_keys": lambda verb, entry: verb(),
    "send_now": lambda verb, entry: verb(a_message()),
    "stats": lambda verb, entry: verb(),
    "suppress": lambda verb, entry: verb(TO),
    "unsuppress": lambda verb, entry: verb(TO),
}


def test_every_twin_is_called_here():
    assert [f"a{name}" for name in CALLS] == TWINS


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", CALLS)
def test_in_a_coroutine_a_verb_names_its_twin(name: str, providers, settings, tmp_path: Path):
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    for part in ("subject", "message"):
        (tmp_path / f"welcome_{part}.txt").write_text("Welcome", encoding="utf-8")
    entry = outbox.enqueue(a_message())

    async def view() -> None:
        CALLS[name](getattr(outbox, name), entry)

    with pytest.raises(SynchronousOnlyOperation, match=rf"Use await outbox\.a{name}\(") as caught:
        asyncio.run(view())

    assert isinstance(caught.value.__cause__, SynchronousOnlyOperation)
    assert OutboxEntry.objects.get() == entry
    assert providers["default"].accepted == []


@pytest.mark.parametrize("name", CALLS)
def test_a_verb_still_says_what_it_takes(name: str):
    verb = getattr(outbox, name)

    assert verb.__name__ == name
    assert verb.__doc__
    assert "args" not in inspect.signature(verb).parameters
