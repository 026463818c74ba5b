"""django-q2's way in: the wake after a commit, the drain it starts, and the sweep that looks anyway."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

from django.apps import AppConfig
from django.db import connections, router
from django_q.brokers import get_broker
from django_q.conf import Conf as QConf
from django_q.models import Schedule
from django_q.tasks import async_task

from mail_outbox import conf as settings
from mail_outbox.drain import Engine, wakes
from mail_outbox.outbox.driving import Driver, Sweep
from mail_outbox.outbox.pruning import keep_house

logger = logging.getLogger("mail_outbox.worker")

DRAIN = "mail_outbox.tasks.drain"
SWEEP = "mail_outbox.tasks.sweep"
SWEEP_NAME = "mail_outbox: sweep"
TIMEOUT_MARGIN = timedelta(seconds=5)
"""What a drain leaves of django-q2's timeout, which strikes in the middle of anything."""
BROKER_TIMEOUT = 2
"""Seconds a request waits at the most for a Redis broker that does not answer."""


def wake_after_commit(sender: object, *, database: str, **_: object) -> None:
    """Ask for a drain, once for all that was committed since the last one looked; never raises."""
    if settings.get_conf().wake:
        wake(database)


def wake(database: str) -> None:
    """Send the drain task unless one is on its way already; a broker that is down costs a logged warning."""
    try:
        if wakes.ask(database=database):
            _send_drain()
    except Exception as error:  # noqa: BLE001
        # The entry is committed and the sweep will find it: nothing here may hurt the request.
        logger.warning("wake failed", extra={"error": type(error).__name__, "database": database})


def drain() -> dict[str, int]:
    """Deliver what is due for one slice, hand over to a new wake if work is left, and return the counts; never raises.

    Where there is more than its senders can take, it wakes another worker at once, and that one the next.
    """
    counts: Counter[str] = Counter()
    databases = settings.get_conf().databases
    for database in databases:
        try:
            with _deferring_sigterm(engine := _engine(os.getpid(), database)):
                counts.update(_drain_slice(engine, share=len(databases)))
        except Exception:
            logger.exception("drain failed", extra={"database": database})
    return dict(counts)


def sweep() -> dict[str, int]:
    """Look for work although nobody asked, then keep house for at most a slice, and return the counts; never raises."""
    started = time.monotonic()
    counts = Counter(drain())
    conf = settings.get_conf()
    for database in conf.databases:
        seconds = conf.slice.total_seconds() / len(conf.databases)
        if QConf.TIMEOUT:
            # A drain that took long leaves less: the next sweep is never far.
            elapsed = timedelta(seconds=time.monotonic() - started)
            seconds = min(seconds, (timedelta(seconds=QConf.TIMEOUT) - TIMEOUT_MARGIN - elapsed).total_seconds())
        kept = keep_house(database, seconds=seconds)
        counts.update({f"pruned_{name}": count for name, count in kept.as_dict().items()})
    return dict(counts)


def install_sweep(sender: AppConfig, *, using: str, **_: object) -> None:
    """Create the sweep's schedule after migrate where it is missing; what somebody edited is left alone."""
    if not router.allow_migrate_model(using, Schedule):
        return
    if Schedule._meta.db_table not in connections[using].introspection.table_names():
        return
    conf = settings.get_conf()
    Schedule.objects.using(using).get_or_create(
        name=SWEEP_NAME,
        defaults={
            "func": SWEEP,
            "schedule_type": Schedule.MINUTES,
            "minutes": max(1, round(conf.poll.total_seconds() / 60)),
            "kwargs": repr({"q_options": _options(SWEEP_NAME)}),
            "cluster": conf.cluster,
        },
    )


def read_sweep() -> Sweep | None:
    """Return how the sweep is scheduled, or None where it is not."""
    schedules = Schedule.objects.using(router.db_for_read(Schedule)).filter(func=SWEEP)
    schedule = schedules.exclude(repeats=0).exclude(schedule_type=Schedule.ONCE).order_by("next_run").first()
    if schedule is None:
        return None
    return Sweep(every=schedule.calculate_next_run() - schedule.next_run, next_at=schedule.next_run)


def _drain_slice(engine: Engine, *, share: int) -> dict[str, int]:
    """Drain one database for its share of the time, and return the counts."""
    conf = settings.get_conf()
    # Before looking: whoever commits from here on asks again, and will be seen by the drain that follows.
    wakes.answer(database=engine.database)
    most = None if not QConf.TIMEOUT else (timedelta(seconds=QConf.TIMEOUT) - TIMEOUT_MARGIN) / share
    with engine.heartbeat.place(conf.max_drains, length=conf.slice + conf.longest_deadline) as has_place:
        if not has_place:
            # Whoever has the place finds the question when leaving it.
            wakes.ask(database=engine.database)
            engine.settle_late()
            return {}
        result = engine.run(slice_length=conf.slice / share, most=most, on_backlog=lambda: wake(engine.database))
    if engine.is_worn_out:
        _ask_to_be_recycled()
    if result.is_work_left:
        wake(engine.database)
    elif conf.max_drains is not None and wakes.is_asked(database=engine.database):
        _send_drain()
    counts = result.as_dict()
    del counts["is_work_left"]
    return counts


DRIVER = Driver(wake=wake, sweep=read_sweep)


def _send_drain() -> None:
    async_task(DRAIN, q_options={**_options("mail_outbox: drain"), "broker": _broker()})


def _options(name: str) -> dict[str, Any]:
    """Return the options that keep a task out of the result tables and from being run again by django-q2."""
    options = {"save": False, "ack_failure": True, "group": "mail_outbox", "task_name": name}
    cluster = settings.get_conf().cluster
    return options if cluster is None else {**options, "cluster": cluster}


def _broker() -> Any:
    broker = get_broker(settings.get_conf().cluster)
    pool = getattr(broker.connection, "connection_pool", None)
    if pool is not None:
        # redis-py waits for ever by default, and this is a request that has committed.
        pool.connection_kwargs.setdefault("socket_connect_timeout", BROKER_TIMEOUT)
        pool.connection_kwargs.setdefault("socket_timeout", BROKER_TIMEOUT)
    return broker


@cache
def _engine(pid: int, database: str) -> Engine:
    """Return this process's engine: workers are forked, and neither threads nor connections survive a fork."""
    return Engine(database)


def _ask_to_be_recycled() -> None:
    """Let django-q2 replace this worker after the task: so many senders are stuck that the rest is crowded out."""
    if multiprocessing.parent_process() is not None:
        logger.error("worker worn out", extra={"pid": os.getpid()})
        QConf.MAX_RSS = 1


@contextmanager
def _deferring_sigterm(engine: Engine) -> Iterator[None]:
    """Turn a SIGTERM into a graceful end of the drain: it is delivered again once everything is settled."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_received = False

    def stop(*_: object) -> None:
        # Nothing here takes a lock: one more SIGTERM may come in the middle of it.
        nonlocal is_received
        is_received = True
        engine.stop_requested.set()

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        if is_received:
            engine.stop_requested.clear()
            os.kill(os.getpid(), signal.SIGTERM)
