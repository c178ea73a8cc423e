"""The message handler: stores each batch, and adds a span to the trace of each record."""

from __future__ import annotations

from collections.abc import Sequence
from time import time_ns

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from chassis.delivery.consumer import Delivered
from chassis.observability.telemetry import Telemetry, context_of, messaging
from log_sink.store import Store


class PersistBatch:
    """Stores batches. If spans are exported, the span of a batch and the traces of its records link to each other."""

    def __init__(self, store: Store, telemetry: Telemetry) -> None:
        self._store = store
        self._telemetry = telemetry

    async def __call__(self, batch: Sequence[Delivered], /) -> None:
        """Store the batch in one transaction."""
        if not self._telemetry.exporting:
            await self._store.store(batch)
            return
        began = time_ns()
        # A batch has records of many traces, so it has a trace of its own.
        with self._telemetry.tracer.start_as_current_span(
            "process batch",
            context=Context(),
            kind=SpanKind.CONSUMER,
            attributes={"messaging.system": "kafka", "messaging.batch.message_count": len(batch)},
            links=[link for delivered in batch if (link := _link(delivered.traceparent)) is not None],
        ) as span:
            await self._store.store(batch)
        self._add_spans(batch, began, Link(span.get_span_context()))

    def _add_spans(self, batch: Sequence[Delivered], began: int, link: Link) -> None:
        for delivered in batch:
            context = context_of(delivered.traceparent)
            if context is None:
                continue
            self._telemetry.tracer.start_span(
                "persist event",
                context=context,
                attributes=messaging(delivered.record.topic, "process") | {"ce.type": delivered.message.TYPE},
                links=[link],
                start_time=began,
            ).end()


def _link(traceparent: str | None) -> Link | None:
    context = context_of(traceparent)
    return None if context is None else Link(trace.get_current_span(context).get_span_context())
