"""What both benchmarks use: all of Segue on a given cluster, and results as a table."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from segue_cli.local.process import child, ready_with
from segue_cli.stack.environment import SANDBOX, without_settings
from segue_cli.stack.folder import held
from segue_cli.stack.run import Plan, stack

LAUNCHER = Path(__file__).parents[1] / "deploy" / "kafka" / "kafka.py"
CLUSTERS = ("embedded", "apache")
ENDPOINT = "stability-ai/stable-audio-2.5"
"""Replicate's name of the model for requests without vocals."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A running Segue, and clients of Segue and of its providers."""

    kafka: str
    api: httpx.AsyncClient
    sandbox: httpx.AsyncClient
    replicate: str
    token: str

    async def submit(self, prompt: str) -> None:
        """Request two seconds of music. Raises httpx.HTTPStatusError if that is refused."""
        body = {"prompt": prompt, "duration_s": 2, "has_vocals": False, "style_strength": 0.5}
        answer = await self.api.post("/api/tracks", json=body, headers={"Idempotency-Key": prompt})
        answer.raise_for_status()

    async def posts(self, prompt: str) -> list[dict[str, Any]]:
        """The recorded POSTs whose prompt contains `prompt`."""
        entries = (await self.sandbox.get("/bills")).json()["entries"]
        return [each for each in entries if each["event"] == "post" and prompt in each["input"]["prompt"]]

    async def post_bare(self, prompt: str) -> None:
        """Send the same request directly to the provider, on a separate connection, as Segue does."""
        url = f"{self.replicate}/v1/models/{ENDPOINT}/predictions"
        body = {"input": {"prompt": prompt, "duration": 2, "cfg_scale": 4}}
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            answer = await client.post(url, json=body, headers={"Authorization": f"Bearer {self.token}"})
            answer.raise_for_status()


@asynccontextmanager
async def ground(cluster: str) -> AsyncIterator[Ground]:
    """All of Segue on a cluster of its own, with providers whose runs end at once."""
    async with AsyncExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="segue-bench-")))
        # A provider that refused is called again at once, as the failover is measured.
        environ = without_settings(os.environ) | {"SEGUE_BREAKER_OPEN_S": "0.001"}
        if cluster == "apache":
            launched = child(
                [sys.executable, str(LAUNCHER)], name="kafka", ready=ready_with("brokers"), ready_within_s=120
            )
            environ["KAFKA_BOOTSTRAP_SERVERS"] = (await cleanup.enter_async_context(launched)).ready[
                "bootstrap_servers"
            ]
        state = cleanup.enter_context(held(folder / "segue"))
        running = await cleanup.enter_async_context(stack(Plan(state, environ, folder, throwaway=True)))
        env = running.env
        clients = [
            httpx.AsyncClient(base_url=base, trust_env=False, timeout=60) for base in (running.api, env[SANDBOX])
        ]
        api, sandbox = [await cleanup.enter_async_context(client) for client in clients]
        (await sandbox.patch("/settings", json={"queue_s": 0, "run_s": 0})).raise_for_status()
        yield Ground(
            env["KAFKA_BOOTSTRAP_SERVERS"], api, sandbox, env["REPLICATE_BASE_URL"], env["REPLICATE_API_TOKEN"]
        )


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """The median and the 95th percentile."""
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return cuts[9], cuts[18]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A text table."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def options(description: str | None, **counts: int) -> argparse.Namespace:
    """The command line: the clusters, and the numbers of jobs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--kafka", choices=CLUSTERS, action="append", help="only this cluster (both)")
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count, help=f"how many ({count})")
    given = parser.parse_args()
    given.kafka = given.kafka or list(CLUSTERS)
    return given
