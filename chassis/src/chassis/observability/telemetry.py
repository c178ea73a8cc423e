"""Tracing: one trace per job, whose context travels in messages.

Names follow OpenTelemetry's semantic conventions 1.44 for messaging. No span covers the time for which a job waits: the
W3C context is stored with each waiting row and restored from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from chassis.settings.otlp import OtlpTarget

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_W3C = TraceContextTextMapPropagator()


class Telemetry:
    """The tracer of this service."""

    def __init__(self, provider: TracerProvider, service: str, *, exporting: bool) -> None:
        self._provider = provider
        self.service = service
        self.exporting = exporting
        """Whether spans are exported; if not, work for spans only can be skipped."""
        self.tracer: Tracer = provider.get_tracer("segue")

    @contextmanager
    def span(
        self,
        name: str,
        *,
        parent: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] | None = None,
        links: tuple[Link, ...] = (),
    ) -> Iterator[Span]:
        """A current span under `parent` (a traceparent), or under the current span if that is None."""
        if not self.exporting:
            with trace.use_span(self._unrecorded(name, context_of(parent)), record_exception=False) as span:
                yield span
            return
        with self.tracer.start_as_current_span(
            name, context=context_of(parent), kind=kind, attributes=attributes, links=links
        ) as span:
            yield span

    def sent(self, topic: str, *, parent: str | None, job_id: str, event_type: str) -> str | None:
        """Record that a message is sent to `topic`; returns the traceparent that travels with it."""
        if not self.exporting and parent is not None:
            return parent
        span = self.tracer.start_span(
            f"send {topic}",
            context=context_of(parent),
            kind=SpanKind.PRODUCER,
            attributes=messaging(topic, "send") | {"messaging.message.conversation_id": job_id, "ce.type": event_type},
        )
        span.end()
        return traceparent_of(span)

    def _unrecorded(self, name: str, context: Context | None) -> Span:
        """A span that has an id, which travels on as that of any span, and nothing else."""
        from opentelemetry.sdk.trace.sampling import Decision

        ids, parent = self._provider.id_generator, trace.get_current_span(context).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else ids.generate_trace_id()
        is_random = parent.trace_flags.random_trace_id if parent.is_valid else ids.is_trace_id_random()
        is_sampled = (
            self._provider.sampler.should_sample(context, trace_id, name).decision is Decision.RECORD_AND_SAMPLE
        )
        flags = (TraceFlags.SAMPLED if is_sampled else 0) | (TraceFlags.RANDOM_TRACE_ID if is_random else 0)
        of = SpanContext(trace_id, ids.generate_span_id(), is_remote=False, trace_flags=TraceFlags(flags))
        return NonRecordingSpan(of)

    def close(self) -> None:
        """Export the remaining spans. Blocks for up to 5 seconds."""
        self._provider.force_flush(5_000)
        self._provider.shutdown()


def make_telemetry(service: str, target: OtlpTarget | None) -> Telemetry:
    """The telemetry of one service, which exports spans to `target` over OTLP/HTTP, or not at all if that is None.

    Raises OpenTelemetry's errors about its own settings, some of which it reads at import.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.namespace": "segue"}))
    if target is not None:
        exporter = OTLPSpanExporter(endpoint=target.url, headers=target.headers, timeout=5)
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
    return Telemetry(provider, service, exporting=target is not None)


def messaging(topic: str, operation: str) -> dict[str, AttributeValue]:
    """The attributes of every messaging span."""
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }


def context_of(traceparent: str | None) -> Context | None:
    """The context of a traceparent; None, which stands for the current context, if there is none."""
    return None if traceparent is None else _W3C.extract({"traceparent": traceparent})


def traceparent_of(span: Span) -> str | None:
    """The W3C traceparent of a span; None if the span is invalid, as outside of all spans."""
    of = span.get_span_context()
    return f"00-{of.trace_id:032x}-{of.span_id:016x}-{of.trace_flags:02x}" if of.is_valid else None


# The messages of a job mostly have the same one.
@lru_cache(maxsize=1024)
def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id (32 hex digits) in a traceparent; None if it is missing or malformed."""
    span = trace.get_current_span(context_of(traceparent)).get_span_context() if traceparent else None
    return format(span.trace_id, "032x") if span is not None and span.is_valid else None
