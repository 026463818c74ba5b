"""Does everything stand that mail needs: mailers that open, workers that answer, a sweep that runs."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mail_outbox import conf as settings
from mail_outbox.core.outcomes import Outcome
from mail_outbox.delivery import Line
from mail_outbox.drain import wakes
from mail_outbox.outbox.driving import driver
from mail_outbox.outbox.watching import stats

LOOK_EVERY = 0.02
"""Seconds between looks whether a worker has answered."""
SCHEDULER_GRAIN = timedelta(seconds=90)
"""How late django-q2 may be with a schedule: it looks every 30 s, and may be busy with others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was tried: what, of which name, whether it is fine, in words, and how long it took in seconds."""

    subject: str
    name: str
    is_fine: bool
    text: str
    seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON."""
        return asdict(self)


def check_mailers() -> Iterator[Finding]:
    """Open each mailer, send nothing, close it, and yield what came of it; never takes longer than one send may."""
    conf = settings.get_conf()
    for alias in settings.real_mailers():
        started = time.monotonic()
        with closing(Line(alias, conf.options_of(alias))) as line:
            trouble = line.connect(started + conf.deadline_of(alias).total_seconds())
            seconds = round(time.monotonic() - started, 3)
            text = f"opens in {seconds:g} s: {line.proof}" if trouble is None else _told(trouble)
        yield Finding(subject="mailer", name=alias, is_fine=trouble is None, text=text, seconds=seconds)


def check_workers(*, wait: timedelta) -> Iterator[Finding]:
    """Look for live workers and the sweep, wake a worker and wait for the answer, and yield what came of each."""
    conf = settings.get_conf()
    for database in conf.databases:
        yield _alive(database)
    yield _sweep()
    for database in conf.databases:
        yield _round_trip(database, wait)


def _alive(database: str) -> Finding:
    count = stats(database=database).workers
    text = f"{count} alive" if count else "none alive; start one: manage.py qcluster"
    return Finding(subject="workers", name=database, is_fine=count > 0, text=text)


def _sweep() -> Finding:
    current = driver()
    if current is None:
        text = "django-q2 is not installed; manage.py outbox drain --forever does what the sweep would"
        return Finding(subject="sweep", name="", is_fine=True, text=text)
    sweep = current.sweep()
    if sweep is None:
        text = "not scheduled; run manage.py migrate, which schedules it"
        return Finding(subject="sweep", name="", is_fine=False, text=text)
    late = datetime.now(UTC) - sweep.next_at
    if late > sweep.every + SCHEDULER_GRAIN:
        text = f"should have run at {sweep.next_at:%Y-%m-%d %H:%M:%S} UTC; no cluster runs the schedules"
        return Finding(subject="sweep", name="", is_fine=False, text=text)
    return Finding(subject="sweep", name="", is_fine=True, text=f"runs next at {sweep.next_at:%H:%M:%S} UTC")


def _round_trip(database: str, wait: timedelta) -> Finding:
    current = driver()
    if current is None or not settings.get_conf().wake:
        text = "workers are not woken: django-q2 is not installed, or MAIL_OUTBOX['WAKE'] is False"
        return Finding(subject="wake", name=database, is_fine=True, text=text)
    if not wakes.is_installed(database=database):
        text = "the row that wakes are asked by is missing; run manage.py migrate, which writes it"
        return Finding(subject="wake", name=database, is_fine=False, text=text)
    started = time.monotonic()
    current.wake(database)
    while wakes.is_asked(database=database):
        if time.monotonic() - started > wait.total_seconds():
            text = f"no worker has answered within {wait.total_seconds():g} s"
            return Finding(subject="wake", name=database, is_fine=False, text=text)
        time.sleep(LOOK_EVERY)
    seconds = round(time.monotonic() - started, 3)
    return Finding(subject="wake", name=database, is_fine=True, text=f"answered in {seconds:g} s", seconds=seconds)


def _told(trouble: Outcome) -> str:
    return " ".join(filter(None, [str(trouble.kind), trouble.code, trouble.text]))
