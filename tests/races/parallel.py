"""Things done at the same moment, each by a thread with a connection of its own."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

from django.core.mail import EmailMessage
from django.db import connection, connections

from mail_outbox.drain import DrainResult, Engine

T = TypeVar("T")
PATIENCE = 120.0
"""Seconds after which a thread that waits for another gives up."""


def at_once(*acts: Callable[[], T]) -> list[T]:
    """Let all of them go at the same moment, and return what each returned; raises what the first of them raised."""
    start = threading.Barrier(len(acts), timeout=PATIENCE)

    def act(what: Callable[[], T]) -> T:
        try:
            connection.ensure_connection()
            start.wait()
            return what()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(acts)) as pool:
        futures = [pool.submit(act, what) for what in acts]
        for future in as_completed(futures):
            future.result()
        return [future.result() for future in futures]


def drain(limit: int | None = None) -> DrainResult:
    """Drain as a worker does, with senders of its own."""
    engine = Engine("default")
    try:
        return engine.run(limit=limit)
    finally:
        engine.stop()


class Gate:
    """Holds a thread until it is opened, and then raises what it was given; a provider's action, for example."""

    def __init__(self, then: Exception | None = None) -> None:
        self._then = then
        self._reached, self._opened = threading.Event(), threading.Event()

    def __call__(self, message: EmailMessage) -> None:
        """Hold the message."""
        self.hold()

    def hold(self) -> None:
        """Wait until the gate is opened."""
        self._reached.set()
        assert self._opened.wait(PATIENCE), "nobody opened the gate"
        if self._then is not None:
            raise self._then

    def wait_until_reached(self) -> None:
        """Wait until something is held."""
        assert self._reached.wait(PATIENCE), "nothing came to the gate"

    def open(self) -> None:
        """Let it through."""
        self._opened.set()


@contextmanager
def beside(act: Callable[[], Any]) -> Iterator[Callable[[], None]]:
    """Do something in another thread meanwhile, and yield what waits for its end."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(_with_own_connection, act)
        yield lambda: future.result(PATIENCE) and None
        future.result(PATIENCE)


@contextmanager
def before(statement: str, act: Callable[[], T]) -> Iterator[list[T]]:
    """Do something over another connection before the first statement that is so, and yield what it returned."""
    results: list[T] = []

    def wrapper(execute: Callable[..., object], sql: str, *arguments: object) -> object:
        if not results and re.search(statement, sql):
            results.extend(at_once(act))
        return execute(sql, *arguments)

    with connection.execute_wrapper(wrapper):
        yield results


def _with_own_connection(act: Callable[[], T]) -> T:
    try:
        return act()
    finally:
        connections.close_all()
