"""One trace for each job: messages carry its context, and an unavailable collector delays nothing."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, DEFAULT_ON, Sampler
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.chassis.toy import QUICK, job, read, request, send, started, toy, until
from tests.patience import patient

from chassis.http.server import serve_http
from chassis.observability.telemetry import (
    CLOSE_LIMIT_S,
    Telemetry,
    context_of,
    make_telemetry,
    trace_id_of,
    traceparent_of,
)
from chassis.runtime.runtime import Runtime
from chassis.settings.otlp import TraceExport, otlp_target
from contracts.topics import JOBS, REQUESTS

TRACE = "0123456789abcdef0123456789abcdef"
PARENT = f"00-{TRACE}-0123456789abcdef-01"


@asynccontextmanager
async def collector() -> AsyncIterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """The URL of an OTLP endpoint over HTTP, and the requests that it has received."""
    got: list[ExportTraceServiceRequest] = []

    async def traces(incoming: Request) -> Response:
        got.append(ExportTraceServiceRequest.FromString(await incoming.body()))
        return Response()

    app = Starlette(routes=[Route("/v1/traces", traces, methods=["POST"])])
    async with serve_http(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}/", got


async def test_spans_arrive_at_the_collector_with_the_services_name() -> None:
    async with collector() as (url, got):
        telemetry = make_telemetry("toy", TraceExport(otlp_target(url)))
        with telemetry.span("work", parent=PARENT, attributes={"a": 1}):
            pass
        await asyncio.to_thread(telemetry.close)
    (resource,) = got[0].resource_spans
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (named["service.name"], named["service.namespace"]) == ("toy", "segue")
    assert named["service.version"] == version("segue-chassis")
    assert named["service.instance.id"]
    (span,) = resource.scope_spans[0].spans
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("work", TRACE, PARENT.split("-")[2])


async def test_an_unavailable_collector_does_not_delay_the_stop() -> None:
    telemetry = make_telemetry("toy", TraceExport(otlp_target("http://127.0.0.1:1")))
    with telemetry.span("work"):
        pass
    began = time.monotonic()
    await asyncio.to_thread(telemetry.close)
    assert time.monotonic() - began < patient(8)


async def test_a_collector_that_never_answers_delays_the_stop_for_a_limited_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        target = otlp_target(f"http://127.0.0.1:{listening.getsockname()[1]}")
        telemetry = make_telemetry("toy", TraceExport(target, timeout_s=patient(60)))
        with telemetry.span("work"):
            pass
        began = time.monotonic()
        await asyncio.to_thread(telemetry.close)
        assert time.monotonic() - began < patient(3 * CLOSE_LIMIT_S)


async def test_the_context_of_a_message_continues_in_the_messages_it_causes(
    embedded_kafka: str, database_url: str
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    runtime = Runtime("toy", Telemetry(provider, "toy", exporting=True), consuming=QUICK)
    asked = request(1)
    traced = type(asked)(asked.topic, asked.key, asked.value, (*asked.headers, ("traceparent", PARENT.encode())))
    async with toy(embedded_kafka, database_url, runtime) as made:
        await send(embedded_kafka, [traced])

        async def handled() -> bool:
            return bool(await made.commits())

        await until(handled)
        async with made.outbox.transaction() as transaction:
            transaction.emit(started(job(2)), PARENT)
        records = await read(embedded_kafka, JOBS.name, 2)
    carried = {
        record.key: value.decode() for record in records for name, value in record.headers if name == "traceparent"
    }
    assert trace_id_of(carried[job(2).encode()]) == TRACE
    finished = {(span.name, span.kind): span for span in spans.get_finished_spans()}
    processed = finished[f"process {REQUESTS.name}", SpanKind.CONSUMER]
    assert processed.parent is not None
    assert format(processed.parent.trace_id, "032x") == TRACE
    assert dict(processed.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": REQUESTS.name,
        "messaging.consumer.group.name": "toy",
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
        "messaging.message.conversation_id": job(1),
        "ce.type": "segue.job.cancel_requested.v1",
    }
    sent = finished[f"send {JOBS.name}", SpanKind.PRODUCER]
    assert (sent.attributes or {})["messaging.message.conversation_id"] in {job(1), job(2)}


def test_without_a_collector_a_context_is_passed_on_and_created_only_if_there_is_none() -> None:
    telemetry = make_telemetry("toy", None)
    assert telemetry.sending("t", parent=PARENT, job_id="j", event_type="e") == (PARENT, None)
    made, span = telemetry.sending("t", parent=None, job_id="j", event_type="e")
    assert span is None
    assert trace_id_of(made) is not None
    assert trace_id_of(made) != TRACE


@pytest.mark.parametrize("version", ["00", "01", "ff"])
@pytest.mark.parametrize("trace_id", [TRACE, TRACE.upper(), "0" * 32, TRACE[1:]])
@pytest.mark.parametrize("span_id", ["0123456789abcdef", "0" * 16, "0123456789abcdef0"])
@pytest.mark.parametrize("rest", ["00", "01", "ff", "1", "01-x", "01 ", "01\n"])
def test_the_id_of_a_trace_is_the_one_that_opentelemetry_finds(
    version: str, trace_id: str, span_id: str, rest: str
) -> None:
    traceparent = f"{version}-{trace_id}-{span_id}-{rest}"
    found = trace.get_current_span(context_of(traceparent)).get_span_context()
    assert trace_id_of(traceparent) == (f"{found.trace_id:032x}" if found.is_valid else None)


@pytest.mark.parametrize(
    "malformed",
    [None, "", "garbage", f"00-{TRACE}", f"00-{'z' * 32}-0123456789abcdef-01", f"00-{'0' * 32}-0123456789abcdef-01"],
)
def test_a_malformed_context_is_ignored(malformed: str | None) -> None:
    assert trace_id_of(malformed) is None
    with make_telemetry("toy", None).span("work", parent=malformed) as span:
        assert span.get_span_context().is_valid


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ALWAYS_ON, DEFAULT_ON])
@pytest.mark.parametrize("flags_of_parent", [None, "00", "01", "02", "03"])
def test_the_context_of_a_span_does_not_depend_on_whether_spans_are_exported(
    sampler: Sampler, flags_of_parent: str | None
) -> None:
    parent = "" if flags_of_parent is None else f"{PARENT[:-2]}{flags_of_parent}"

    def flags_and_trace(*, exporting: bool) -> tuple[str, str | None]:
        telemetry = Telemetry(TracerProvider(sampler=sampler), "toy", exporting=exporting)
        with telemetry.span("work", parent=parent) as span:
            assert trace.get_current_span() is span
            carried = traceparent_of(span)
        assert carried is not None
        version, trace_id, span_id, flags = carried.split("-")
        assert (version, len(span_id)) == ("00", 16)
        assert span_id != PARENT.split("-")[2]
        return flags, trace_id if parent else None

    assert flags_and_trace(exporting=False) == flags_and_trace(exporting=True)


def test_no_context_is_taken_from_outside_of_all_spans() -> None:
    assert traceparent_of(trace.get_current_span()) is None
