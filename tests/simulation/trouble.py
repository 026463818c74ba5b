"""Trouble with the database: a statement or a COMMIT is refused, or done and its answer lost."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connection

AWAY = "server closed the connection unexpectedly"


@contextmanager
def refused_statement(number: int) -> Iterator[None]:
    """Refuse the n-th statement."""
    with connection.execute_wrapper(_Strike(number, answer_lost=False)):
        yield


@contextmanager
def lost_answer(number: int) -> Iterator[None]:
    """Carry out the n-th statement, and lose the answer."""
    with connection.execute_wrapper(_Strike(number, answer_lost=True)):
        yield


@contextmanager
def refused_commit() -> Iterator[None]:
    """Refuse the first COMMIT."""
    with _commit(lambda _: None):
        yield


@contextmanager
def lost_commit() -> Iterator[None]:
    """Carry out the first COMMIT, and lose the answer."""
    with _commit(lambda commit: commit()):
        yield


@contextmanager
def drawn(chance: random.Random) -> Iterator[str]:
    """Draw one of them, and yield what it is called."""
    number = chance.randint(1, 6)
    kinds: list[tuple[str, Any]] = [
        ("COMMIT answer lost", lost_commit()),
        ("COMMIT refused", refused_commit()),
        (f"answer {number} lost", lost_answer(number)),
        (f"statement {number} refused", refused_statement(number)),
    ]
    name, trouble = chance.choice(kinds)
    with trouble:
        yield name


class _Strike:
    def __init__(self, number: int, *, answer_lost: bool) -> None:
        self._left = number
        self._answer_lost = answer_lost

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001 (Django's)
        # What a lost connection leaves open, the server rolls back, so nothing here may keep Django from doing the same.
        if sql.startswith("BEGIN") or "SAVEPOINT" in sql:
            return execute(sql, params, many, context)
        self._left -= 1
        if self._left:
            return execute(sql, params, many, context)
        if self._answer_lost:
            execute(sql, params, many, context)
        raise OperationalError(AWAY)


@contextmanager
def _commit(act: Any) -> Iterator[None]:
    commit = connection._commit

    def strike() -> None:
        connection._commit = commit
        act(commit)
        raise OperationalError(AWAY)

    connection._commit = strike
    try:
        yield
    finally:
        connection._commit = commit
