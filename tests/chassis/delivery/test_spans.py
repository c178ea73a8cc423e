"""The span of a message lasts until it is finished, and says why it was not processed."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.chassis.toy import QUICK, job, request, send, toy, until

from chassis.observability.telemetry import Telemetry
from chassis.runtime.runtime import Runtime
from contracts.topics import REQUESTS


async def test_a_message_is_a_span_until_it_is_finished_and_a_dead_letter_a_failed_one(
    embedded_kafka: str, database_url: str
) -> None:
    exported = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    runtime = Runtime("toy", Telemetry(provider, "toy", exporting=True), consuming=QUICK)

    def processed() -> dict[object, ReadableSpan]:
        spans = [span for span in exported.get_finished_spans() if span.name == f"process {REQUESTS.name}"]
        return {(span.attributes or {})["messaging.message.conversation_id"]: span for span in spans}

    async with toy(embedded_kafka, database_url, runtime) as made:
        await send(embedded_kafka, [request(1, "wait")])

        async def called() -> bool:
            return bool(made.calls)

        await until(called)
        assert processed() == {}, "the batch is still in hand"
        made.gate.set()

        async def ended() -> bool:
            return len(processed()) == 3

        await send(embedded_kafka, [request(2, "raise"), request(3)])
        await until(ended)
    first, poison, good = (processed()[job(n)] for n in (1, 2, 3))
    assert (poison.status.is_ok, (poison.attributes or {})["error.type"]) == (False, "RuntimeError")
    assert "error.type" not in (first.attributes or {})
    assert "error.type" not in (good.attributes or {})
    batches = {span.context.span_id: span for span in exported.get_finished_spans() if span.name == "process batch"}
    for span in (first, poison, good):
        [link] = span.links
        batch = batches[link.context.span_id]
        assert batch.parent is None
        assert batch.context.trace_id != span.context.trace_id
        assert span.start_time == batch.start_time
