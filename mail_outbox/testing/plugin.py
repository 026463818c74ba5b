"""The pytest plugin: fixtures that import Django when a test asks for them, and not before."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mail_outbox.delivery.scripted import Provider


@pytest.fixture
def outbox_entries(db: None) -> Any:
    """Return the manager of the entries: `outbox_entries.get()`, `outbox_entries.failed()`."""
    from mail_outbox.models import OutboxEntry

    return OutboxEntry.objects


@pytest.fixture
def drain_outbox(db: None) -> Callable[..., Any]:
    """Return what delivers all that is due, here and now: `drain_outbox(at=…, until_idle=True)`."""
    from mail_outbox import testing

    return testing.drain_outbox


@pytest.fixture
def assert_enqueued(db: None) -> Callable[..., Any]:
    """Return what looks for entries: `assert_enqueued(to="jane@example.com")`."""
    from mail_outbox import testing

    return testing.assert_enqueued


@pytest.fixture
def assert_enqueues(db: None) -> Callable[..., Any]:
    """Return what looks for the entries of a block: `with assert_enqueues(count=2): …`."""
    from mail_outbox import testing

    return testing.assert_enqueues


@pytest.fixture
def outbox_backend() -> Iterator[None]:
    """Turn the drop-in on: `send_mail()` writes to the outbox, as it does outside of tests."""
    from mail_outbox import testing

    with testing.outbox_backend():
        yield


@pytest.fixture
def provider() -> Iterator["Provider"]:
    """Let every mailer be a provider that obeys a script: `provider.fails(503, times=2)`."""
    from mail_outbox import testing

    with testing.scripted_provider() as provider:
        yield provider
