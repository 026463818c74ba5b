"""A route of two real mailers, through a real cluster."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from mail_outbox.core.outcomes import Kind
from mail_outbox.core.states import State
from mail_outbox.models import Attempt, OutboxEntry
from tests.faults import closed_port
from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.processes import Processes, eventually, smtp, unfinished

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.slow]

COUNT = 250
WORKERS = 2


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """Keep a port where nobody listens, and nobody else can begin to."""
    with closed_port() as port:
        yield port


def test_a_first_mailer_that_refuses_connections_leaves_all_mail_to_the_second(
    processes: Processes, sink: SMTPFaultServer, refusing_port: int
):
    processes.mailers = {"first": smtp(sink), "second": smtp(sink)}
    processes.mailers["first"]["OPTIONS"]["port"] = refusing_port
    processes.outbox |= {
        "USING": "main",
        "ROUTES": {"main": ["first", "second"]},
        "MAILER_OPTIONS": {alias: {"deadline": timedelta(seconds=4)} for alias in processes.mailers},
    }
    processes.q_cluster = {"workers": WORKERS}
    processes.cluster()
    began = time.monotonic()

    processes.writer("writer", COUNT).result()
    eventually(lambda: not unfinished(), within=30)

    entries = OutboxEntry.objects.all()
    # The breaker of the first rests for half a minute: nobody has waited for it.
    assert time.monotonic() - began < 20
    assert Counter(accepted.message_id for accepted in sink.journal) == {entry.message_id: 1 for entry in entries}
    assert set(entries.values_list("state", "using", "route", "attempts")) == {(State.SENT, "second", "main", 1)}
    kinds = Counter(Attempt.objects.values_list("using", "kind"))
    assert kinds["second", Kind.SENT] == len(entries) > 200
    assert 1 <= kinds["first", Kind.MAILER] <= WORKERS * 16, kinds
