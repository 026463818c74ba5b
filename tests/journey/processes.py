"""Real processes on the test's own database: clusters, writers; none of them outlives the test."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from django.core.mail import EmailMessage
from django.db import transaction
from django_q.tasks import async_task

from mail_outbox import outbox, tasks
from mail_outbox.core.states import UNFINISHED
from mail_outbox.models import OutboxEntry
from tests.faults.smtp_process import SMTPProcess
from tests.faults.smtp_server import SMTPFaultServer

ROOT = Path(__file__).resolve().parent.parent.parent
T = TypeVar("T")
PATIENCE = 120.0
"""Seconds for which a test waits where it does not matter how long it takes: a busy machine is not a failure."""


def eventually(
    question: Callable[[], T],
    *,
    within: float = PATIENCE,
    every: float = 0.05,
    meanwhile: Callable[[], object] | None = None,
) -> T:
    """Ask until the answer is true, and return it; once a second do something meanwhile. Fails past the bound."""
    pause = threading.Event()
    end = time.monotonic() + within
    next_time = time.monotonic() + 1
    while not (answer := question()):
        if time.monotonic() > end:
            raise AssertionError(f"Not within {within} s: {answer!r}.")
        if meanwhile is not None and time.monotonic() >= next_time:
            meanwhile()
            next_time = time.monotonic() + 1
        pause.wait(every)
    return answer


def smtp(server: SMTPFaultServer | SMTPProcess) -> dict[str, Any]:
    """Return the mailer that talks to this server."""
    return {
        "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "OPTIONS": {"host": server.host, "port": server.port, "timeout": 30},
    }


def appender(path: Path) -> dict[str, Any]:
    """Return the mailer that appends the subjects of its messages to this file."""
    return {"BACKEND": "tests.journey.mailers.AppendBackend", "OPTIONS": {"path": str(path)}}


def commit(key: str, *, using: str = "default") -> OutboxEntry:
    """Enqueue a mail in a transaction of its own, as a view does, and return its entry."""
    message = EmailMessage("Order", f"Your order {key}", "shop@example.com", ["jane@example.com"])
    message.extra_headers["X-Key"] = key
    with transaction.atomic():
        return outbox.enqueue(message, using=using)


def look(times: int = 1) -> None:
    """Let workers look for work so many times, however many wakes are on their way already or were lost on it."""
    for _ in range(times):
        async_task(tasks.DRAIN, q_options={"save": False, "ack_failure": True})


def unfinished() -> int:
    """Count the entries that still wait or are being sent."""
    return OutboxEntry.objects.filter(state__in=UNFINISHED).count()


class Child:
    """A process in a session of its own, with everything it forks; what it says is kept in files."""

    def __init__(self, arguments: list[str], *, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.with_suffix(".out").open("w") as out, log.with_suffix(".err").open("w") as err:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def output(self) -> str:
        """Return what it has printed."""
        return self.log.with_suffix(".out").read_text()

    @property
    def errors(self) -> str:
        """Return what it has logged."""
        return self.log.with_suffix(".err").read_text()

    @property
    def is_running(self) -> bool:
        """Tell whether the main process is there."""
        return self._process.poll() is None

    def wait(self, within: float = PATIENCE) -> int:
        """Wait for the main process to end, and return its exit code."""
        return self._process.wait(timeout=within)

    def result(self, within: float = PATIENCE) -> Any:
        """Wait for the end, and return the JSON that was printed."""
        assert self.wait(within) == 0, self.errors
        return json.loads(self.output)

    def terminate(self) -> None:
        """Ask the main process to stop, as a supervisor does."""
        os.kill(self.pid, signal.SIGTERM)

    def signal_all(self, number: int) -> None:
        """Send a signal to the main process and to everything it forked."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it all at once, as a power cut does."""
        self.signal_all(signal.SIGKILL)
        self._process.wait()
        eventually(lambda: not self.members, every=0.01)

    @property
    def members(self) -> list[int]:
        """List the process ids of all that live of it; one that is dead and not buried yet does not."""
        return [pid for pid, group, state in all_processes() if group == self.pid and state not in "ZX"]


def all_processes() -> list[tuple[int, int, str]]:
    """List the id, the group and the state of every process, from Linux itself or from what `ps` prints elsewhere."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.check_output(["/bin/ps", "-A", "-o", "pid=,pgid=,stat="], text=True)
        return [(int(pid), int(group), state[0]) for pid, group, state in map(str.split, listing.splitlines())]
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            found.append((int(path.parent.name), int(group), state))
    return found


class Processes:
    """All children of one test, with the settings they run under."""

    def __init__(self, directory: Path) -> None:
        self.mailers: dict[str, Any] = {}
        self.outbox: dict[str, Any] = {}
        self.q_cluster: dict[str, Any] = {}
        self._directory = directory
        self._children: list[Child] = []

    def cluster(self) -> Child:
        """Start `manage.py qcluster`, and wait until it takes tasks."""
        child = self.start(["-m", "django", "qcluster"], name="cluster")
        eventually(lambda: "] running." in child.errors or not child.is_running)
        assert child.is_running, child.errors
        return child

    def writer(self, name: str, count: int) -> Child:
        """Start a process that enqueues, see `tests.journey.writer`."""
        return self.start(["-m", "tests.journey.writer", name, str(count)], name=name)

    def start(self, arguments: list[str], *, name: str) -> Child:
        """Start a Python of our own kind under these settings."""
        given = {"mailers": self.mailers, "outbox": self.outbox, "q_cluster": self.q_cluster}
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.journey.settings",
            "MAIL_OUTBOX_TEST_JOURNEY": json.dumps(given, default=_seconds),
            "PYTHONUNBUFFERED": "1",
        }
        log = self._directory / f"{len(self._children):02}-{name}.log"
        child = Child(arguments, environment=environment, log=log)
        self._children.append(child)
        return child

    def end(self) -> None:
        """Kill whatever is left."""
        for child in self._children:
            child.signal_all(signal.SIGKILL)
        for child in self._children:
            child.kill()

    def report(self) -> str:
        """Return the last words of all children."""
        return "\n".join(f"--- {child.log.stem}\n{child.errors[-6000:]}" for child in self._children)


def _seconds(value: object) -> dict[str, float]:
    if isinstance(value, timedelta):
        return {"seconds": value.total_seconds()}
    raise TypeError(f"{value!r} cannot be handed over to a child process.")
