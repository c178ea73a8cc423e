"""Tracing: one trace per job, whose context travels in messages.

Names follow OpenTelemetry's semantic conventions 1.44 for messaging. No span covers the time for which a job waits: the
W3C context is stored with each waiting row and restored from it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from importlib.metadata import entry_points, version
from threading import Thread
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from chassis.settings.otlp import OtlpTarget, TraceExport

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_W3C = TraceContextTextMapPropagator()
_OURS: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""A valid traceparent as `traceparent_of` writes it; others may have more fields, or be of a later version."""
_MESSAGE_CHARS: Final = 200
CLOSE_LIMIT_S: Final = 5.0
"""Seconds that the end of a process waits for its last spans to be exported."""
NOT_PUBLISHED: Final = "not_published"
"""The `error.type` of the sending of a message that Kafka did not take at once; it is sent again later."""


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
        end_on_exit: bool = True,
    ) -> Iterator[Span]:
        """A current span under `parent` (a traceparent), or under the current span if that is None.

        Only a span that is ended is exported. Without `end_on_exit` the caller ends it, or leaves it out of the trace.
        """
        if not self.exporting:
            unrecorded = self._unrecorded(name, context_of(parent))
            token = attach(trace.set_span_in_context(unrecorded))
            try:
                yield unrecorded
            finally:
                detach(token)
            return
        with self.tracer.start_as_current_span(
            name, context=context_of(parent), kind=kind, attributes=attributes, end_on_exit=end_on_exit
        ) as span:
            yield span

    def sending(
        self, topic: str, *, parent: str | None, job_id: str, event_type: str
    ) -> tuple[str | None, Span | None]:
        """The traceparent that travels with a message to `topic`, and the span of its sending.

        The caller ends the span once Kafka has the message. It is None if no spans are exported.
        """
        name = f"send {topic}"
        if not self.exporting:
            return parent or traceparent_of(self._unrecorded(name, context_of(parent))), None
        span = self.tracer.start_span(
            name,
            context=context_of(parent),
            kind=SpanKind.PRODUCER,
            attributes=messaging(topic, "send") | {"messaging.message.conversation_id": job_id, "ce.type": event_type},
        )
        return traceparent_of(span), span

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
        """Export the remaining spans. Blocks for up to `CLOSE_LIMIT_S`; spans not exported by then are lost."""
        # OpenTelemetry has no limit of its own: a flush ignores its timeout, and a shutdown waits for 30 s.
        closing = Thread(target=self._provider.shutdown, name="telemetry-close", daemon=True)
        closing.start()
        closing.join(CLOSE_LIMIT_S)


def make_telemetry(service: str, export: TraceExport | None) -> Telemetry:
    """The telemetry of one service, which exports its spans as `export` says, or not at all if that is None.

    Raises OpenTelemetry's errors about its own settings, some of which it reads at import.
    """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=_resource(service))
    if export is not None:
        for exporter in _exporters(export):
            provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=export.every_ms))
    return Telemetry(provider, service, exporting=export is not None)


def _resource(service: str) -> Resource:
    """What the spans are of. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours = {"service.name": service, "service.namespace": "segue", "service.version": version("segue-chassis")}
    return Resource.create(ours).merge(OTELResourceDetector().detect())


def _exporters(export: TraceExport) -> Iterator[SpanExporter]:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    if export.target is not None:
        yield _otlp_exporter(export.target, export.timeout_s)
    if export.console:
        yield ConsoleSpanExporter(out=sys.stdout, formatter=_on_one_line)


def _otlp_exporter(target: OtlpTarget, timeout_s: float) -> SpanExporter:
    if target.grpc:
        # It reads all of its settings itself.
        [found] = entry_points(group="opentelemetry_traces_exporter", name="otlp_proto_grpc")
        exporter: SpanExporter = found.load()()
        return exporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=target.url, headers=target.headers, timeout=timeout_s)


def _on_one_line(span: ReadableSpan) -> str:
    return f"{span.to_json(indent=None)}\n"


def failed(span: Span, error_type: str, message: str | None = None) -> None:
    """Mark a span as failed. `error_type` is from a small set of words."""
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR, message[:_MESSAGE_CHARS] if message else None))


def end_sending(spans: Mapping[int, Span | None], published: AbstractSet[int]) -> None:
    """End the spans of messages, by their numbers; those that are not among `published` have failed."""
    for number, span in spans.items():
        if span is not None:
            if number not in published:
                failed(span, NOT_PUBLISHED)
            span.end()


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
    if not traceparent:  # As most requests have none, and the messages of a trace all have one.
        return None if traceparent is None else Context()
    return _W3C.extract({"traceparent": traceparent})


def traceparent_of(span: Span) -> str | None:
    """The W3C traceparent of a span; None if the span is invalid, as outside of all spans."""
    of = span.get_span_context()
    return f"00-{of.trace_id:032x}-{of.span_id:016x}-{of.trace_flags:02x}" if of.is_valid else None


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id (32 hex digits) in a traceparent; None if it is missing or malformed."""
    if traceparent is None:
        return None
    if (ours := _OURS.fullmatch(traceparent)) is not None:
        return ours[1]
    span = trace.get_current_span(context_of(traceparent)).get_span_context()
    return format(span.trace_id, "032x") if span.is_valid else None
