"""The spans of a batch: one of its own, and one in each message's trace for the time until it is finished.

A batch has messages of many traces, so its span is in a trace of its own. It has a link to each message's sender, and
the span of each message has a link to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import time_ns
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind

from chassis.delivery.dead_letters import DeadLetter
from chassis.observability.telemetry import Telemetry, context_of, failed, messaging, traceparent_of
from contracts.envelope import Envelope, Skipped

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from chassis.delivery.handling import Found

NOT_COMMITTED: Final = "not_committed"
"""The `error.type` of a message that is delivered again: its batch ended before its turn."""


class BatchSpans:
    """The spans of the batch in hand. Without export there are none, and nothing is done."""

    def __init__(self, telemetry: Telemetry, group: str) -> None:
        self._telemetry = telemetry
        self._group = group
        self._batch: Span | None = None
        self._began_ns = 0
        self._open: dict[tuple[str, int, int], Span] = {}

    @contextmanager
    def of_batch(self, size: int) -> Iterator[None]:
        """The spans of a batch of `size` records. Those that are not finished at the end of the block have failed."""
        if not self._telemetry.exporting:
            yield
            return
        self._began_ns = time_ns()
        self._batch = batch = self._telemetry.tracer.start_span(
            "process batch",
            context=Context(),
            kind=SpanKind.CONSUMER,
            start_time=self._began_ns,
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.consumer.group.name": self._group,
                "messaging.batch.message_count": size,
            },
        )
        error_type = NOT_COMMITTED
        try:
            yield
        except BaseException as error:
            error_type = type(error).__name__
            failed(batch, error_type)
            raise
        finally:
            for span in self._open.values():
                failed(span, error_type)
                span.end()
            self._open.clear()
            self._batch = None
            batch.end()

    def begun(self, record: ConsumerRecord[bytes, bytes], found: Envelope) -> str | None:
        """Start the span of one message; returns the traceparent under which its work is traced."""
        if self._batch is None:
            return found.traceparent
        context = context_of(found.traceparent)
        if (sender := trace.get_current_span(context).get_span_context()).is_valid and context is not None:
            self._batch.add_link(sender)
        span = self._telemetry.tracer.start_span(
            f"process {record.topic}",
            context=Context() if context is None else context,
            kind=SpanKind.CONSUMER,
            start_time=self._began_ns,
            links=[Link(self._batch.get_span_context())],
            attributes=messaging(record.topic, "process")
            | {
                "messaging.consumer.group.name": self._group,
                "messaging.destination.partition.id": str(record.partition),
                "messaging.kafka.offset": record.offset,
                "messaging.message.conversation_id": found.message.job_id,
                "ce.type": found.message.TYPE,
            },
        )
        self._open[_place(record)] = span
        return traceparent_of(span)

    def finished(self, done: Sequence[Found]) -> None:
        """End the spans of messages that are finished."""
        if not self._open:
            return
        for found in done:
            if isinstance(found, Skipped) or (span := self._open.pop(_place(found.record), None)) is None:
                continue
            if isinstance(found, DeadLetter):
                failed(span, found.error.partition(":")[0])
            span.end()


def _place(record: ConsumerRecord[bytes, bytes]) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset
