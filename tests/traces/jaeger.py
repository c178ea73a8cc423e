"""A real store of traces: Jaeger, built from its Go module once, with its storage in memory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from tests.patience import eventually

from go_programs import CannotBuild, GoPrograms
from segue_cli.local.ports import free_port

JAEGER: Final = GoPrograms(
    "jaeger",
    Path(__file__).resolve().parent,
    {"jaeger": ("store", "github.com/jaegertracing/jaeger/cmd/jaeger")},
    duration="nine minutes",
)


@dataclass(frozen=True, slots=True)
class Jaeger:
    """A running store."""

    otlp: str
    """Where spans are sent, over OTLP/HTTP."""
    query: str
    """Where traces are asked back."""

    async def trace(self, trace_id: str) -> dict[str, Any] | None:
        """A trace, as the query API has it; None while it is not known."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{self.query}/api/traces/{trace_id}")
        found: list[dict[str, Any]] = answer.json().get("data") or [] if answer.is_success else []
        return found[0] if found else None


@asynccontextmanager
async def jaeger(folder: Path) -> AsyncIterator[Jaeger]:
    """A store for the length of the block; `folder` is for its configuration and its log."""
    ports = {name: free_port() for name in ("otlp", "query", "query_grpc", "metrics")}
    file = folder / "jaeger.yaml"
    file.write_text(yaml.safe_dump(_configuration(ports)), "utf-8")
    with (folder / "jaeger.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            JAEGER.folder() / "jaeger", "--config", file, stdout=log, stderr=log
        )
        try:
            store = Jaeger(f"http://127.0.0.1:{ports['otlp']}", f"http://127.0.0.1:{ports['query']}")
            await eventually(lambda: _answers(store, process), 60, "Jaeger answers")
            yield store
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _answers(store: Jaeger, process: asyncio.subprocess.Process) -> bool:
    assert process.returncode is None, "Jaeger has ended; its log says why"
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"{store.query}/api/services")).is_success
    except httpx.HTTPError:
        return False


def _configuration(ports: dict[str, int]) -> dict[str, Any]:
    at = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": ports["metrics"]}}}}
    query = {
        "storage": {"traces": "memory"},
        "http": {"endpoint": at["query"]},
        "grpc": {"endpoint": at["query_grpc"]},
    }
    return {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
            "telemetry": {"metrics": {"readers": [reader]}},
        },
        "extensions": {
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 10_000}}}},
            "jaeger_query": query,
        },
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": at["otlp"]}}}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
    }


def main() -> int:
    """Build it if it is not there; returns 0 also where it cannot be built, with a line that says why."""
    if (why := JAEGER.missing()) is not None:
        print(f"jaeger: {why}; the tests that need it are skipped")
        return 0
    try:
        JAEGER.built(lambda line: print(f"jaeger: {line}", flush=True))
    except CannotBuild as error:
        print(f"jaeger: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
