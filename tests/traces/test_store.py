"""A real store takes a job's trace, and its query API gives it back whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import system_on
from tests.traces import jaeger

from contracts.topics import SERVICES

pytestmark = [pytest.mark.store, pytest.mark.asyncio(loop_scope="session")]

SEED = {"prompt": "Warm ambient pad", "duration_s": 20, "has_vocals": False, "style_strength": 0.5}
CLOCK_SLACK_US = 5_000


async def test_the_trace_of_a_job_that_fal_refused_comes_back_from_jaeger(tmp_path: Path) -> None:
    if not (jaeger.JAEGER.folder() / "jaeger").exists():
        pytest.skip(f"{jaeger.JAEGER.missing() or 'Jaeger is not built yet'}; `make test-traces` builds it")
    async with jaeger.jaeger(tmp_path) as store:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": store.otlp,
            "SEGUE_TRACE_URL": f"{store.query}/trace/{{trace_id}}",
        }
        async with system_on("embedded", tmp_path, settings) as system:
            await system.fault("Warm ambient pad", {"refuse": "balance"}, provider="fal")
            accepted = (await system.api.post("/api/tracks", json=SEED)).json()
            job = await system.ended(accepted["job_id"])
            assert job["trace_url"] == f"{store.query}/trace/{accepted['trace_id']}"

            async def whole() -> dict[str, Any] | None:
                found = await store.trace(accepted["trace_id"])
                stored = [name for name in names(found, "log-sink") if name.startswith("process ")]
                return (
                    found if len(stored) >= len(await system.log(accepted["job_id"])) and not orphans(found) else None
                )

            trace = await system.until("Jaeger has the whole trace", whole)
    assert trace is not None
    shown = tree(trace)
    print(shown)
    assert {process["serviceName"] for process in trace["processes"].values()} == set(SERVICES), shown
    spans = {span["spanID"]: span for span in trace["spans"]}
    assert [span["operationName"] for span in spans.values() if parent_of(span) is None] == ["POST /api/tracks"], shown
    assert [name for name in names(trace, "gateway") if not name.startswith(("POST ", "send "))] == []
    [refused] = [span for span in spans.values() if span["operationName"].startswith("post fal-ai/")]
    assert (tag(refused, "error.type"), tag(refused, "otel.status_code")) == ("insufficient_balance", "ERROR"), shown
    attempts = [span for span in spans.values() if span["operationName"].startswith("generate_content ")]
    assert len(attempts) == 2
    assert all(span["duration"] > 0 for span in attempts), shown
    for span in spans.values():
        if (parent := spans.get(parent_of(span) or "")) is not None:
            assert span["startTime"] >= parent["startTime"] - CLOCK_SLACK_US, shown


def parent_of(span: dict[str, Any]) -> str | None:
    """The id of a span's parent. Links to other traces are references of another type."""
    return next((str(each["spanID"]) for each in span["references"] if each["refType"] == "CHILD_OF"), None)


def tag(span: dict[str, Any], name: str) -> Any:
    return next((each["value"] for each in span["tags"] if each["key"] == name), None)


def names(trace: dict[str, Any] | None, service: str) -> list[str]:
    """The names of the spans of one service."""
    if trace is None:
        return []
    of = {number for number, process in trace["processes"].items() if process["serviceName"] == service}
    return [span["operationName"] for span in trace["spans"] if span["processID"] in of]


def orphans(trace: dict[str, Any] | None) -> list[str]:
    """Spans whose parent has not arrived."""
    spans = {span["spanID"]: span for span in trace["spans"]} if trace else {}
    parents = {span["spanID"]: parent_of(span) for span in spans.values()}
    return [own for own, parent in parents.items() if parent is not None and parent not in spans]


def tree(trace: dict[str, Any]) -> str:
    """The spans, each below its parent, with its start and its length in milliseconds."""
    spans, begin = trace["spans"], min(span["startTime"] for span in trace["spans"])
    lines: list[str] = []

    def add(parent: str | None, depth: int) -> None:
        for span in sorted((each for each in spans if parent_of(each) == parent), key=lambda each: each["startTime"]):
            times = f"{(span['startTime'] - begin) / 1000:9.1f} {span['duration'] / 1000:9.1f} ms  "
            service = trace["processes"][span["processID"]]["serviceName"]
            failed = f"  ERROR {tag(span, 'error.type')}" if tag(span, "error") else ""
            lines.append(f"{times}{'  ' * depth}{span['operationName']} [{service}]{failed}")
            add(span["spanID"], depth + 1)

    add(None, 0)
    return "\n".join(lines)
