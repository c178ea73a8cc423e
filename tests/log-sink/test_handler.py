"""The spans that the handler records."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.observability.telemetry import Telemetry
from chassis.postgres.pool import Pool
from log_sink.handler import PersistBatch
from log_sink.store import Store

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_trace_of_each_record_has_a_span_for_storing_it(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    exported = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    handler = PersistBatch(store, Telemetry(provider, "log-sink", exporting=True))
    requested, accepted, submitting, *_rest = story.messages()
    parent = "00-1123456789abcdef0123456789abcdef-{}-01"
    first, second = parent.format("00000000000000aa"), parent.format("00000000000000bb")

    await handler(
        [
            deliver(requested, traceparent=first),
            deliver(accepted, traceparent=second),
            deliver(submitting, traceparent=None),
        ]
    )

    batch, *persisted = exported.get_finished_spans()
    assert (batch.name, batch.parent) == ("process batch", None)
    assert [format(link.context.span_id, "016x") for link in batch.links] == ["00000000000000aa", "00000000000000bb"]
    assert [span.name for span in persisted] == ["persist event"] * 2
    assert [format(span.parent.span_id, "016x") for span in persisted if span.parent] == [first[36:52], second[36:52]]
    assert {span.links[0].context.span_id for span in persisted} == {batch.context.span_id}
    assert await pool.fetchval("SELECT count(*) FROM events") == 3
