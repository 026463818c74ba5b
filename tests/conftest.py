"""What all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from django.conf import settings

from mail_outbox.outbox import suppressing
from tests.fakes import Provider
from tests.support import scripted

# A busy machine is not a failure. The rest is hypothesis' own choice: fixed examples where CI is set.
hypothesis.settings.register_profile("unhurried", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """Remove what a killed run left beside its SQLite file: Django removes the file, and SQLite would replay the log."""
    database = settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.sqlite3":
        for suffix in ("-wal", "-shm"):
            Path(database["TEST"]["NAME"] + suffix).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def no_list_is_known() -> None:
    """Let each test begin in a process that knows nothing of suppressed addresses, so that enqueue costs what it costs."""
    suppressing.forget()


@pytest.fixture
def redis_url() -> str:
    """Return where a Redis for tests is, or skip."""
    url = os.environ.get("MAIL_OUTBOX_TEST_REDIS")
    if not url:
        pytest.skip("MAIL_OUTBOX_TEST_REDIS names no Redis")
    return url


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Let the mailer `default` obey a script."""
    with scripted("default") as providers:
        yield providers["default"]


@pytest.fixture
def providers() -> Iterator[dict[str, Provider]]:
    """Let the mailers `default` and `bulk` obey scripts."""
    with scripted("default", "bulk") as configured:
        yield configured
