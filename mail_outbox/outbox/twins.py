"""Verbs with an asynchronous twin: whoever calls one from a coroutine is told of the other."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.core.exceptions import SynchronousOnlyOperation

P = ParamSpec("P")
R = TypeVar("R")


def has_twin(verb: Callable[P, R]) -> Callable[P, R]:
    """Return the verb; where Django refuses it the database because an event loop runs, the error names the twin."""

    @functools.wraps(verb)
    def call(*args: P.args, **keywords: P.kwargs) -> R:
        try:
            return verb(*args, **keywords)
        except SynchronousOnlyOperation as error:
            raise use_twin(verb.__name__) from error

    return call


def use_twin(name: str) -> SynchronousOnlyOperation:
    """Return the error that names the twin."""
    return SynchronousOnlyOperation(
        f"outbox.{name}() cannot be called from an async context. Use await outbox.a{name}(...)."
    )
