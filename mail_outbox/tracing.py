"""OpenTelemetry spans from enqueue to delivery, where its API is installed; nothing at all where it is not."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from mail_outbox.core.outcomes import Kind

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    IS_TRACED = False
else:
    IS_TRACED = True
    PROPAGATOR = TraceContextTextMapPropagator()

NAME = "mail_outbox"
LONGEST = 55
"""How long a traceparent of version 00 is (W3C Trace Context 3.2)."""

Note = Callable[[str], None]


@contextmanager
def enqueueing() -> Iterator[str]:
    """Trace what is written meanwhile as `outbox enqueue`, and yield the traceparent to store with it, or an empty text.

    Neither it nor `delivering` raises by itself: mail goes its way whatever an exporter thinks of it.
    """
    if not _is_anybody_tracing():
        yield ""
        return
    stack = ExitStack()
    span = _start(stack, "outbox enqueue", kind=trace.SpanKind.PRODUCER)
    carrier: dict[str, str] = {}
    with suppress(Exception):
        PROPAGATOR.inject(carrier)
    traceparent = carrier.get("traceparent", "")
    try:
        yield traceparent if len(traceparent) <= LONGEST else ""
    except Exception as error:
        # Its name alone: the text of an error may quote an address.
        with suppress(Exception):
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        with suppress(Exception):
            stack.close()


@contextmanager
def delivering(traceparent: str, *, entry: int, mailer: str, attempt: int) -> Iterator[Note]:
    """Trace what is sent meanwhile as `outbox deliver`, linked to the enqueue, and yield what is to be told the outcome."""
    if not IS_TRACED:
        yield _ignore
        return
    stack = ExitStack()
    span = _start(
        stack,
        "outbox deliver",
        kind=trace.SpanKind.CONSUMER,
        links=_links(traceparent),
        attributes={"mail_outbox.entry": entry, "mail_outbox.mailer": mailer, "mail_outbox.attempt": attempt},
    )
    try:
        yield partial(_note, span)
    finally:
        with suppress(Exception):
            stack.close()


def _is_anybody_tracing() -> bool:
    """Tell whether there are spans at all: the API alone makes none, but hands on that of whoever called this process."""
    if not IS_TRACED:
        return False
    with suppress(Exception):
        is_set_up = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        return is_set_up or trace.get_current_span() is not trace.INVALID_SPAN
    return True


def _start(stack: ExitStack, name: str, **given: Any) -> Any:
    """Start a span that lasts as long as the stack, and return it; None where the tracing itself is in trouble."""
    with suppress(Exception):
        return stack.enter_context(trace.get_tracer(NAME).start_as_current_span(name, **given))
    return None


def _links(traceparent: str) -> list[Any]:
    with suppress(Exception):
        context = PROPAGATOR.extract({"traceparent": traceparent})
        stored = trace.get_current_span(context).get_span_context()
        if stored.is_valid:
            return [trace.Link(stored)]
    return []


def _note(span: Any, outcome: str) -> None:
    with suppress(Exception):
        span.set_attribute("mail_outbox.outcome", outcome)
        if outcome and outcome not in {Kind.SENT, Kind.PARTIAL, Kind.CANCELLED}:
            span.set_status(trace.StatusCode.ERROR, outcome)


def _ignore(_: str) -> None:
    pass
