"""What the journeys share: processes that end with the test, and somebody who takes the mail."""

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.processes import Processes, smtp


@pytest.fixture
def sink() -> Iterator[SMTPFaultServer]:
    """Run a server that accepts everything, and writes down what."""
    with SMTPFaultServer() as server:
        yield server


@pytest.fixture
def processes(transactional_db: None, tmp_path: Path, sink: SMTPFaultServer) -> Iterator[Processes]:
    """Start processes whose mail goes to the sink, with deadlines short enough to wait for."""
    if not hasattr(os, "fork"):
        pytest.skip("needs an operating system that forks")
    children = Processes(tmp_path)
    children.mailers = {"default": smtp(sink), "bulk": smtp(sink)}
    children.outbox = {
        "LEASE": timedelta(seconds=8),
        "BACKOFF": {"first": timedelta(seconds=0.2), "longest": timedelta(seconds=1)},
        "MAILER_OPTIONS": {alias: {"deadline": timedelta(seconds=4)} for alias in ("default", "bulk")},
    }
    try:
        yield children
    finally:
        children.end()
        # Shown where the test has failed.
        sys.stdout.write(children.report())


def only_on(*databases: str) -> pytest.MarkDecorator:
    """Run a test where MAIL_OUTBOX_TEST_DB names one of these databases; once is enough for what it proves."""
    return pytest.mark.skipif(
        os.environ.get("MAIL_OUTBOX_TEST_DB", "sqlite") not in databases,
        reason=f"runs on {' and '.join(databases)} only",
    )
