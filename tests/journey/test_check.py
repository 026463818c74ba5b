"""The operator's check, against a real cluster."""

import json
from contextlib import suppress
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from django_q.models import Schedule

from mail_outbox import tasks
from tests.journey.processes import Processes, commit, eventually, unfinished

pytestmark = [pytest.mark.journey, pytest.mark.slow]


def check(wait: str) -> dict[str, dict[str, Any]]:
    """Run `manage.py outbox check`, and return what it found about workers, by subject."""
    out = StringIO()
    with suppress(CommandError):
        call_command("outbox", "check", "--json", "--wait", wait, stdout=out, stderr=StringIO())
    return {found["subject"]: found for found in json.loads(out.getvalue())["findings"]}


def test_it_sees_a_cluster_come_and_measures_its_answer(processes: Processes):
    before = check("1s")
    assert (before["workers"]["is_fine"], before["wake"]["is_fine"]) == (False, False)

    # Nobody has run it since the tests began.
    assert Schedule.objects.filter(func=tasks.SWEEP).update(next_run=timezone.now()) == 1
    processes.cluster()
    commit("first")
    eventually(lambda: not unfinished())
    after = check("20s")

    assert (after["workers"]["is_fine"], after["wake"]["is_fine"], after["sweep"]["is_fine"]) == (True, True, True)
    assert 0 < after["wake"]["seconds"] < 20
