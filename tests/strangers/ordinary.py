"""Ordinary clients that send one request at a time, and the latency of the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

ANSWERED_WITHIN_S = 10.0


@dataclass
class Waits:
    """The latencies and the failures that one client has seen."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """The latency of this share of the answers, in milliseconds; infinite without any answer."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")

    def __str__(self) -> str:
        p50, p99, most = (self.quantile(share) for share in (0.5, 0.99, 1))
        failed = f", {len(self.failed)} FAILED: {self.failed[0]}" if self.failed else ""
        return f"{len(self.seconds)} answered, p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {most:.0f} ms{failed}"


@asynccontextmanager
async def requesting(
    method: str, url: str, expected: int, *, every_s: float, fresh: bool, body: Any = None
) -> AsyncIterator[Waits]:
    """Send requests for the length of the block, each on a new connection if `fresh`."""
    waits = Waits()
    keep = httpx.Limits(max_keepalive_connections=0 if fresh else 1)

    async def send() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWERED_WITHIN_S, limits=keep) as client:
            while True:
                began = time.monotonic()
                try:
                    answer = await client.request(method, url, json=body)
                except httpx.HTTPError as error:
                    waits.failed.append(repr(error))
                else:
                    waits.seconds.append(time.monotonic() - began)
                    if answer.status_code != expected:
                        waits.failed.append(f"{answer.status_code} {answer.text[:200]}")
                await asyncio.sleep(max(0, began + every_s - time.monotonic()))

    task = asyncio.create_task(send())
    try:
        yield waits
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def failures(waits: Sequence[Waits]) -> list[str]:
    """The failures of all clients."""
    return [each for one in waits for each in one.failed]
