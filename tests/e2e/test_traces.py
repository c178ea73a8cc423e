"""One trace covers a whole job: every hop, both attempts, each stored event. It contains no secret."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.e2e.conftest import System, system_on

from chassis.http.server import serve_http
from contracts.topics import SERVICES
from segue_cli.stack.run import SANDBOX_KEYS

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SEED = {"prompt": "Warm ambient pad", "duration_s": 20, "has_vocals": False, "style_strength": 0.5}
CALLS = {"post", "check", "search", "cancel", "collect"}
CLOCK_SLACK_NS = 5_000_000
"""An attempt begins at a time of PostgreSQL's clock, and that of its command at one of the adapter's."""
READ = ("request_served", "GET")
ANCESTORS = ["process segue.requests", "send segue.requests", "POST /api/tracks"]


@dataclass(frozen=True)
class Span:
    """A span as it was exported."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    error: bool
    attributes: dict[str, Any]
    started_ns: int
    ended_ns: int
    links: list[str]
    """The ids of the spans that it has links to."""


@dataclass
class Collector:
    """Receives what services export over OTLP/HTTP."""

    address: str = ""
    raw: list[bytes] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    """The version that each service names."""

    async def take(self, request: Request) -> Response:
        body = await request.body()
        body = gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body
        self.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            of = {each.key: each.value.string_value for each in resource.resource.attributes}
            service = of["service.name"]
            self.versions[service] = of["service.version"]
            for scope in resource.scope_spans:
                self.spans += [_span(service, span) for span in scope.spans]
        return Response()

    def of(self, trace: str) -> dict[str, Span]:
        return {span.id: span for span in self.spans if span.trace == trace}


def _span(service: str, span: Any) -> Span:
    attributes = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
    trace, own, parent = (raw.hex() for raw in (span.trace_id, span.span_id, span.parent_span_id))
    error = span.status.code == Status.STATUS_CODE_ERROR
    times = span.start_time_unix_nano, span.end_time_unix_nano
    return Span(
        service, span.name, trace, own, parent, error, attributes, *times, [link.span_id.hex() for link in span.links]
    )


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    app = Starlette(routes=[Route("/v1/traces", collector.take, methods=["POST"])])
    async with serve_http(app, "127.0.0.1", 0) as port:
        collector.address = f"http://127.0.0.1:{port}"
        yield collector


@dataclass(frozen=True)
class TracedJob:
    """A job that fal refused and Replicate made, with its log and its spans."""

    system: System
    collector: Collector
    accepted: dict[str, Any]
    log: list[dict[str, Any]]

    @property
    def spans(self) -> dict[str, Span]:
        return self.collector.of(self.accepted["trace_id"])

    def ancestors(self, span: Span) -> list[Span]:
        found = []
        while span.parent:
            span = self.spans[span.parent]
            found.append(span)
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TracedJob]:
    folder = tmp_path_factory.mktemp("traced")
    async with collecting() as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}
        async with system_on("embedded", folder, settings) as system:
            await system.fault("Warm ambient pad", {"refuse": "balance"}, provider="fal")
            accepted = (await system.api.post("/api/tracks", json=SEED)).json()
            assert (await system.ended(accepted["job_id"]))["status"] == "succeeded"

            async def exported() -> list[dict[str, Any]]:
                log = await system.log(accepted["job_id"])
                stored = [one for one in collector.of(accepted["trace_id"]).values() if one.service == "log-sink"]
                attempts = [one for one in collector.spans if one.name.startswith("generate_content")]
                # Each service exports in its own time, so a parent may come after its child.
                known = collector.of(accepted["trace_id"])
                rooted = all(not one.parent or one.parent in known for one in known.values())
                return log if rooted and len(stored) >= len(log) and len(attempts) == 2 else []

            yield TracedJob(system, collector, accepted, await system.until("all has been exported", exported))


async def test_one_trace_crosses_all_five_services_and_every_parent_is_in_it(traced: TracedJob) -> None:
    spans = traced.spans.values()
    assert {span.service for span in spans} == set(SERVICES)
    (root,) = [span for span in spans if not span.parent]
    assert (root.service, root.name) == ("gateway", "POST /api/tracks")
    assert [span for span in spans if span.parent and span.parent not in traced.spans] == []
    about_the_job = [
        span for span in traced.collector.spans if span.attributes.get("segue.job.id") == traced.accepted["job_id"]
    ]
    assert {span.trace for span in about_the_job} == {root.trace}


async def test_both_attempts_have_the_same_ancestor_in_the_orchestrator(traced: TracedJob) -> None:
    attempts = {
        span.attributes["gen_ai.provider.name"]: span
        for span in traced.spans.values()
        if span.name.startswith("generate_content")
    }
    for provider, attempt in attempts.items():
        topic = f"segue.commands.{provider}"
        names = [f"process {topic}", f"send {topic}", *ANCESTORS]
        assert [span.name for span in traced.ancestors(attempt)] == names
        assert attempt.service == f"{provider}-adapter"
    jobs = {traced.ancestors(attempt)[2].id for attempt in attempts.values()}
    assert len(jobs) == 1  # The very same span of the orchestrator.
    refused, made = attempts["fal"], attempts["replicate"]
    assert (refused.error, refused.attributes["error.type"]) == (True, "insufficient_balance")
    assert (made.error, made.attributes.get("error.type")) == (False, None)


async def test_each_event_in_the_jobs_log_has_a_span_of_the_log_sink(traced: TracedJob) -> None:
    stored = Counter(
        span.attributes["ce.type"]
        for span in traced.spans.values()
        if span.service == "log-sink" and span.name.startswith("process ")
    )
    assert stored == Counter(f"segue.{entry['event']}.v1" for entry in traced.log)


async def test_the_time_of_each_span_is_real(traced: TracedJob) -> None:
    assert [span for span in traced.spans.values() if span.ended_ns <= span.started_ns] == []
    early = [
        (span.name, (parent.started_ns - span.started_ns) / 1e9)
        for span in traced.spans.values()
        if (parent := traced.spans.get(span.parent)) and span.started_ns < parent.started_ns - CLOCK_SLACK_NS
    ]
    assert early == []
    # A message's processing ends with the commit of its offset, after what follows from it has been handed over.
    [sent] = [span for span in traced.spans.values() if span.name == "send segue.commands.fal"]
    process = traced.spans[sent.parent]
    assert process.started_ns < sent.started_ns < process.ended_ns


async def test_a_batch_is_a_trace_of_its_own_and_linked_both_ways(traced: TracedJob) -> None:
    batches = {span.id: span for span in traced.collector.spans if span.name == "process batch"}
    messages = [span for span in traced.spans.values() if span.name.startswith("process segue.")]
    assert {batches[link].service for span in messages for link in span.links} == set(SERVICES) - {"gateway"}
    assert [span.name for span in batches.values() if span.parent or span.trace == traced.accepted["trace_id"]] == []
    for span in messages:
        [link] = span.links
        assert span.parent in batches[link].links


async def test_each_call_of_a_provider_is_a_span_and_a_failed_one_says_why(traced: TracedJob) -> None:
    calls = [span for span in traced.spans.values() if span.name.partition(" ")[0] in CALLS]
    told = {(span.name.partition(" ")[0], span.attributes["gen_ai.provider.name"]): span for span in calls}
    assert set(told) == {("post", "fal"), ("post", "replicate"), ("check", "replicate"), ("collect", "replicate")}
    refused, made = told["post", "fal"], told["post", "replicate"]
    assert (refused.error, refused.attributes["error.type"]) == (True, "insufficient_balance")
    assert (refused.attributes["http.response.status_code"], refused.attributes["server.address"]) == (403, "localhost")
    assert (made.error, made.attributes.get("error.type")) == (False, None)
    assert made.attributes["http.response.status_code"] == 201
    checks = [span for span in calls if span.name.startswith("check ")]
    assert len(checks) <= 3, "a check that finds nothing new is no span"


async def test_reads_are_not_traced(traced: TracedJob) -> None:
    assert {span.name for span in traced.collector.spans if span.service == "gateway"} == {
        "POST /api/tracks",
        "send segue.requests",
    }


async def test_every_service_names_its_version(traced: TracedJob) -> None:
    assert traced.collector.versions == {service: version(f"segue-{service}") for service in SERVICES}


async def test_the_api_and_every_log_line_name_the_same_trace(traced: TracedJob) -> None:
    job_id, trace_id = traced.accepted["job_id"], traced.accepted["trace_id"]
    assert (await traced.system.job(job_id))["trace_id"] == trace_id
    about: dict[str, list[dict[str, Any]]] = {}

    async def written() -> bool:
        for name, text in traced.system.logs().items():
            if name in SERVICES:
                # The last line may be half written.
                about[name] = [json.loads(line) for line in text.split("\n")[:-1] if job_id in line]
        return {"orchestrator", "fal-adapter", "replicate-adapter"} <= {name for name, lines in about.items() if lines}

    await traced.system.until("each has written about the job", written)
    # A later request for the job is a trace of its own.
    every = [line for lines in about.values() for line in lines if (line.get("code"), line.get("method")) != READ]
    assert {line.get("trace_id") for line in every} == {trace_id}
    [accepted] = [line for line in every if line.get("code") == "request_served"]
    assert (accepted["route"], accepted["http_status"], accepted["job_id"]) == ("/api/tracks", 202, job_id)


async def test_no_secret_is_in_any_span_or_log(traced: TracedJob) -> None:
    secrets = {part for key in SANDBOX_KEYS.values() for part in (key, key.rpartition(":")[2])}
    everywhere = {"spans": b"".join(traced.collector.raw).decode("utf-8", "replace"), **traced.system.logs()}
    assert [(where, secret) for where, text in everywhere.items() for secret in secrets if secret in text] == []
    assert "Warm ambient pad" not in everywhere["spans"]
