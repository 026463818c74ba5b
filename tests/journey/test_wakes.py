"""A wake is only a hint: losing it delays mail, and a broker that is down costs the request nothing."""

import socket
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.models import OrmQ, Schedule

from mail_outbox import tasks
from mail_outbox.core.states import State
from mail_outbox.models import OutboxEntry, Wake
from tests.faults.smtp_server import SMTPFaultServer
from tests.journey.conftest import only_on
from tests.journey.processes import Processes, commit, eventually, unfinished

pytestmark = [pytest.mark.journey, pytest.mark.slow]

SCHEDULER_EVERY = 30
"""Seconds between two looks of django-q2 at its schedules."""


@only_on("sqlite")
def test_a_lost_wake_delays_mail_by_no_more_than_a_sweep(processes: Processes, sink: SMTPFaultServer):
    entry = commit("order")
    assert OrmQ.objects.all().delete()[0] == 1, "no wake was sent"
    Schedule.objects.filter(func=tasks.SWEEP).update(next_run=timezone.now() - timedelta(seconds=1))

    processes.cluster()

    eventually(lambda: not unfinished(), within=SCHEDULER_EVERY + 15, every=0.2)
    assert [accepted.message_id for accepted in sink.journal] == [entry.message_id]
    sweep = Schedule.objects.get(func=tasks.SWEEP)
    assert sweep.next_run - timezone.now() <= timedelta(minutes=1), "the next sweep is more than a minute away"


def test_a_lost_wake_is_made_good_by_the_next_commit(processes: Processes):
    first = commit("first")
    OrmQ.objects.all().delete()
    # As it is ten seconds later.
    Wake.objects.update(requested_at=timezone.now() - timedelta(seconds=11))
    processes.cluster()

    second = commit("second")

    eventually(lambda: not unfinished(), within=20)
    assert {first.pk, second.pk} == set(OutboxEntry.objects.filter(state=State.SENT).values_list("pk", flat=True))


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """Keep a port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Keep a port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def test_a_broker_that_is_down_costs_the_request_a_logged_warning(processes: Processes, refusing_port: int):
    processes.q_cluster = {"orm": None, "redis": f"redis://127.0.0.1:{refusing_port}/0"}

    writer = processes.writer("writer", 1)
    report = writer.result()

    assert report["seconds"][0] < 1
    assert report["committed"] == ["writer-0"]
    assert writer.errors.count("WARNING wake failed") == 1
    assert OutboxEntry.objects.get().state == State.QUEUED


def test_a_broker_that_says_nothing_costs_the_request_seconds_at_the_most(processes: Processes, silent_port: int):
    processes.q_cluster = {"orm": None, "redis": f"redis://127.0.0.1:{silent_port}/0"}
    began = time.monotonic()

    writer = processes.writer("writer", 1)
    report = writer.result()

    assert report["seconds"][0] < tasks.BROKER_TIMEOUT + 1
    assert time.monotonic() - began < 15
    assert "WARNING wake failed" in writer.errors
    assert OutboxEntry.objects.get().state == State.QUEUED
