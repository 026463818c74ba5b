"""Traces: from the enqueue to the attempt where OpenTelemetry is there, nothing where it is not, and never in the way."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from mail_outbox import outbox, tracing
from mail_outbox.models import EntryContent
from tests.fakes import REFUSED
from tests.support import a_message

pytest.importorskip("opentelemetry.sdk.trace")

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

pytestmark = pytest.mark.django_db

WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from mail_outbox import tracing
with tracing.enqueueing() as traceparent:
    print(repr(traceparent))
with tracing.delivering("", entry=1, mailer="default", attempt=1) as note:
    note("sent")
print(tracing.IS_TRACED)
"""


class Spans:
    """What has been traced, by name."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def named(self, name: str) -> list[Any]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """Record all spans; the library's own provider can be set only once in a process."""
    spans = Spans()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", spans.provider)
    yield spans
    spans.provider.shutdown()


def test_the_attempt_is_linked_to_the_enqueue(spans: Spans, provider):
    entry = outbox.enqueue(a_message())
    outbox.drain()

    [enqueued], [delivered] = spans.named("outbox enqueue"), spans.named("outbox deliver")
    assert (enqueued.kind, delivered.kind) == (trace.SpanKind.PRODUCER, trace.SpanKind.CONSUMER)
    assert delivered.parent is None
    assert [link.context.span_id for link in delivered.links] == [enqueued.context.span_id]
    assert [link.context.trace_id for link in delivered.links] == [enqueued.context.trace_id]
    assert dict(delivered.attributes) == {
        "mail_outbox.entry": entry.pk,
        "mail_outbox.mailer": "default",
        "mail_outbox.attempt": 1,
        "mail_outbox.outcome": "sent",
    }
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]", EntryContent.objects.get().traceparent)


def test_the_enqueue_belongs_to_the_request(spans: Spans, provider):
    with trace.get_tracer("web").start_as_current_span("request") as request:
        outbox.enqueue(a_message())

    [enqueued] = spans.named("outbox enqueue")
    assert enqueued.parent.span_id == request.get_span_context().span_id


def test_many_are_one_span_that_each_attempt_is_linked_to(spans: Spans, provider):
    outbox.enqueue_many([a_message(), a_message()])
    outbox.drain()

    [enqueued] = spans.named("outbox enqueue")
    links = [link.context.span_id for span in spans.named("outbox deliver") for link in span.links]
    assert links == [enqueued.context.span_id] * 2


def test_an_attempt_that_failed_is_an_error_that_quotes_nobody(spans: Spans, provider):
    provider.will(REFUSED)
    outbox.enqueue(a_message())
    outbox.drain()

    [delivered] = spans.named("outbox deliver")
    assert (delivered.status.status_code, delivered.status.description) == (trace.StatusCode.ERROR, "permanent")


def test_an_enqueue_that_failed_is_an_error_that_quotes_nobody(spans: Spans, provider, settings):
    settings.MAIL_OUTBOX = {**settings.MAIL_OUTBOX, "OUTSIDE_ATOMIC": "allow"}
    outbox.enqueue(a_message(), idempotency_key="once")
    with pytest.raises(outbox.IdempotencyConflict):
        outbox.enqueue(a_message("Other"), idempotency_key="once", on_conflict="raise")

    failed = spans.named("outbox enqueue")[-1]
    assert (failed.status.status_code, failed.status.description) == (trace.StatusCode.ERROR, "IdempotencyConflict")
    assert not failed.events


def test_a_retry_is_linked_to_the_same_enqueue_and_nothing_of_the_message_is_told(spans: Spans, provider):
    provider.will(REFUSED)
    entry = outbox.enqueue(a_message("Very secret", to=["jane@example.com"]))
    outbox.drain()
    outbox.retry(entry)
    outbox.drain()

    first, second = spans.named("outbox deliver")
    assert first.links[0].context == second.links[0].context
    told = " ".join(span.to_json() for span in spans.exporter.get_finished_spans())
    assert "jane" not in told
    assert "secret" not in told


def test_a_tracer_that_breaks_costs_no_mail(monkeypatch, provider):
    class Broken:
        def on_start(self, *_: object, **__: object) -> None:
            raise RuntimeError("exporter")

        on_end = on_start

        def shutdown(self) -> None: ...

    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(Broken())
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", tracer_provider)

    entry = outbox.enqueue(a_message())
    outbox.drain()

    entry.refresh_from_db()
    assert entry.state == "sent"


@pytest.mark.parametrize("stored", ["", "nonsense", "00-0-0-00"])
def test_an_entry_without_a_trace_is_delivered_in_a_span_without_a_link(spans: Spans, provider, stored: str):
    outbox.enqueue(a_message())
    EntryContent.objects.update(traceparent=stored)
    outbox.drain()

    [delivered] = spans.named("outbox deliver")
    assert not delivered.links


def test_without_a_set_up_sdk_nothing_is_stored(monkeypatch, provider):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    outbox.enqueue(a_message())

    assert EntryContent.objects.get().traceparent == ""


def test_without_a_set_up_sdk_the_span_of_whoever_called_is_handed_on(monkeypatch, provider):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    caller = trace.SpanContext(trace_id=1, span_id=2, is_remote=True, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(caller)):
        outbox.enqueue(a_message())

    assert EntryContent.objects.get().traceparent == f"00-{1:032x}-{2:016x}-01"


def test_without_the_library_it_does_nothing():
    result = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)

    assert result.stdout.split() == ["''", "False"], result.stderr


def test_the_column_is_as_long_as_a_traceparent():
    assert EntryContent._meta.get_field("traceparent").max_length == tracing.LONGEST
