"""Requests that one endpoint process accepts per second; the client costs less processor time than an endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

import aiohttp
from bench.accounts import cpu_of


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint that answers 202 to POSTs."""

    url: str
    pid: int
    """The id of its process."""
    body: Callable[[int], Mapping[str, object]]
    """The JSON body of the n-th request."""
    headers: Callable[[int], Mapping[str, str]] = field(default=lambda n: {})
    """Its headers."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Requests that one endpoint process accepts."""

    per_s: float
    cpu_ms: float
    """CPU time in milliseconds of the endpoint's process per request."""
    client_cpu_ms: float
    """That of the client."""


async def answers(endpoint: Endpoint, seconds: float, at_once: int) -> Answers:
    """Send requests for that many seconds, `at_once` at a time. Raises RuntimeError if one is not answered with 202."""
    answered, numbers = 0, count()
    connector = aiohttp.TCPConnector(limit=at_once)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as client:

        async def send_on() -> None:
            nonlocal answered
            while time.perf_counter() - began < seconds:
                n = next(numbers)
                sending = client.post(endpoint.url, json=endpoint.body(n), headers=endpoint.headers(n))
                async with sending as answer:
                    await answer.read()
                if answer.status != 202:
                    raise RuntimeError(f"{endpoint.url} answered with {answer.status}")
                answered += 1

        with cpu_of({"endpoint": endpoint.pid}) as cpu:
            began, client_began = time.perf_counter(), time.process_time()
            await asyncio.gather(*(send_on() for _ in range(at_once)))
            took_s, client_s = time.perf_counter() - began, time.process_time() - client_began
    return Answers(answered / took_s, 1000 * cpu.total / answered, 1000 * client_s / answered)
