"""Ordinary clients, one request at a time, and how long each has to wait for its answer."""

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
    """What one client saw."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """The time within which this share was answered, in milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")

    def __str__(self) -> str:
        p50, p99, most = (self.quantile(share) for share in (0.5, 0.99, 1))
        failed = f", {len(self.failed)} FAILED: {self.failed[0]}" if self.failed else ""
        return f"{len(self.seconds)} answered, p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {most:.0f} ms{failed}"


@asynccontextmanager
async def asking(
    method: str, url: str, expected: int, *, every_s: float, fresh: bool, body: Any = None
) -> AsyncIterator[Waits]:
    """Ask for the length of the block, on a connection of its own each time if `fresh`."""
    waits = Waits()
    keep = httpx.Limits(max_keepalive_connections=0 if fresh else 1)

    async def ask() -> None:
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

    task = asyncio.create_task(ask())
    try:
        yield waits
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def failures(waits: Sequence[Waits]) -> list[str]:
    """What went wrong for any of them."""
    return [each for one in waits for each in one.failed]
