"""An exception from a signal's handler, django-q2's timeout for one, at every step of the way from result to fact."""

import itertools
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import CodeType, FrameType
from typing import Any

import pytest
from django.db import connection

from mail_outbox import outbox, signals
from mail_outbox.core.states import State
from mail_outbox.drain import Engine, settler
from mail_outbox.drain.dispatcher import Dispatcher
from mail_outbox.drain.senders import Pool
from mail_outbox.drain.settler import Settler
from mail_outbox.drain.tray import Tray
from mail_outbox.models import Attempt, OutboxEntry
from mail_outbox.transitions import settling
from tests.fakes import Provider
from tests.support import a_message

pytestmark = pytest.mark.django_db(transaction=True)

TAKING = [
    *(Engine._take_result, Tray.first, Tray.drop_first, Settler.add, Settler._follow_streaks, settler._judged),
    *(Dispatcher.is_news, Dispatcher.take_back, Pool.has_judged, Pool.take_back),
]
WRITING = [Settler.settle, settling.settle, settling._settle_together, settling._write_successes]


TOOL = 3
"""A number that neither a debugger nor coverage goes by."""


class Struck(BaseException):
    """What the handler raises."""


class Handler:
    """Raises before the n-th bytecode, or line, of these functions that comes after the mail is out."""

    def __init__(self, number: int, step: str, functions: list[Callable[..., Any]], provider: Provider) -> None:
        self._left, self._step, self._provider = number, step, provider
        self._codes: set[CodeType] = {function.__code__ for function in functions}
        self._thread = threading.get_ident()

    def __enter__(self) -> None:
        if sys.version_info < (3, 12):
            self._before = sys.gettrace()
            sys.settrace(self._trace)
            return
        event = sys.monitoring.events.INSTRUCTION if self._step == "opcode" else sys.monitoring.events.LINE
        sys.monitoring.use_tool_id(TOOL, "handler")
        sys.monitoring.register_callback(TOOL, event, lambda *_: self._strike())
        for code in self._codes:
            sys.monitoring.set_local_events(TOOL, code, event)

    def __exit__(self, *_: object) -> None:
        if sys.version_info < (3, 12):
            sys.settrace(self._before)
            return
        for code in self._codes:
            sys.monitoring.set_local_events(TOOL, code, 0)
        sys.monitoring.free_tool_id(TOOL)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code not in self._codes:
            return None
        frame.f_trace_opcodes = True
        if event == self._step:
            self._strike()
        return self._trace

    def _strike(self) -> None:
        if self._provider.accepted and threading.get_ident() == self._thread:
            self._left -= 1
            if self._left == -1:
                raise Struck


def deliver_struck(*handler: Any) -> bool:
    """Drain as a worker does, and tell whether it was struck.

    In a thread of its own, which takes its connection along as the process does, with what was not committed. And an
    exception between two bytecodes, where Python itself raises none, may stay behind as the one being handled: it would
    be the context of every later one in the thread.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_deliver_struck, *handler).result()


def _deliver_struck(*handler: Any) -> bool:
    engine = Engine("default")
    try:
        with Handler(*handler):
            engine.run()
    except Struck:
        return True
    finally:
        engine.stop()
        connection.close()
    return False


@pytest.mark.parametrize(
    ("step", "functions"), [("opcode", TAKING), ("line", WRITING)], ids=["being taken", "being written"]
)
def test_wherever_it_strikes_what_is_out_is_written_as_sent_once(step, functions, provider):
    told = []
    signals.entry_settled.connect(listen := lambda entry, **_: told.append(entry.pk), weak=False)
    try:
        for number in itertools.count():
            provider.accepted.clear()
            told.clear()
            entry = outbox.enqueue(a_message(str(number)))
            is_struck = deliver_struck(number, step, functions, provider)

            assert provider.subjects == [str(number)]
            assert OutboxEntry.objects.get(pk=entry.pk).state == State.SENT, f"lost at step {number}"
            assert Attempt.objects.filter(entry=entry).count() == 1
            assert len(told) <= 1
            if not is_struck:
                break
    finally:
        signals.entry_settled.disconnect(listen)

    assert number > 20, "hardly anything was looked at"
