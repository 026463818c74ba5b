"""A real django-q2 cluster, for what can only be seen in one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.apps import new_counter
from benchmarks.contenders import ours
from benchmarks.crew import Child
from benchmarks.stage import Stage


@contextmanager
def cluster(stage: Stage, database: str, *, workers: int = 1, **more: Any) -> Iterator[tuple[Child, Path]]:
    """Start `manage.py qcluster`, and yield a process that enqueues, and the file in which the cluster's statements are counted."""
    given = stage.settings(ours, database, stage.smtp(), processes=workers)
    counter = stage.directory / f"statements-{database}"
    new_counter(counter)
    log = stage.directory / "children.log"
    counted = {**given, "BENCHMARK_STATEMENTS": str(counter), **more}
    with (
        Child(given, log) as writer,
        Child(counted, log, ("-m", "django", "qcluster")) as child,
    ):
        try:
            yield writer, counter
        finally:
            child.stop()


def commit(number: int) -> float:
    """Enqueue a message, and return the moment after the commit, in a measured process."""
    from django.db import transaction

    with transaction.atomic():
        ours.enqueue(number)
    return time.monotonic()


def commit_steadily(rate: float, seconds: float) -> int:
    """Enqueue so many messages a second, each in a transaction of its own, and return how many there were."""
    began, number = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds:
        if (wait := began + number / rate - now) > 0:
            time.sleep(wait)
        commit(number)
        number += 1
    return number


def is_counted() -> bool:
    """Tell whether sweeps have counted every attempt, in a measured process."""
    from mail_outbox import transitions

    return transitions.all_counted(database="default").exists()


def wait_until(question: Callable[[], bool], seconds: float = 60.0, every: float = 0.002) -> None:
    """Wait until it is so, or raise TimeoutError."""
    until = time.monotonic() + seconds
    while not question():
        if time.monotonic() > until:
            raise TimeoutError(f"Not within {seconds} s.")
        time.sleep(every)
