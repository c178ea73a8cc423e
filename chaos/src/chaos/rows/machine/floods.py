"""Row 30: a flood of requests, clients that send slowly, and huge bodies, beside ordinary clients."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx

from chaos.cluster.fleet import Fleet
from chaos.load.clients import Load
from chaos.load.requests import RequestSpec
from chaos.rows.ambiguous import all_bound
from chaos.rows.base import Row
from chaos.rows.probes import BillLog
from segue_cli.local.ports import LOOPBACK

SLOW_CLIENTS: Final = 150
HUGE_BODIES: Final = 20
HUGE_BYTES: Final = 16 << 20
MOST_BYTES: Final = 600 << 20
ANSWERED_WITHIN_S: Final = 10.0
"""How long an ordinary client may wait for an answer while the flood lasts."""


async def _flood(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    bill_log, gateway = BillLog(fleet), fleet.replica("gateway-1")
    spec = RequestSpec("one of many", {"providers": ["fal", "replicate"], "deadline_s": 900})
    answers: Counter[str] = Counter()
    async with asyncio.TaskGroup() as tasks:
        slow = [tasks.create_task(_slow_client(gateway.port)) for _ in range(SLOW_CLIENTS)]
        huge = [tasks.create_task(_huge_body(gateway.address, answers)) for _ in range(HUGE_BODIES)]
        watching = tasks.create_task(_waits(fleet, gateway.address))
        async with load.running(1000, fleet.scale.flood, open_at_most=fleet.scale.flood, spec=spec):
            await load.wait_for_requests(fleet.scale.flood)

            async def all_answered() -> None:
                while any(one.job_id is None for one in load.requests):  # noqa: ASYNC110 - it waits for a count
                    await asyncio.sleep(0.2)

            async with asyncio.timeout(150):
                await all_answered()
        await asyncio.gather(*huge)
        most_bytes = _resident(gateway.pid)
        for one in (*slow, watching):
            one.cancel()
    waited: list[float] = []
    with suppress(asyncio.CancelledError):
        waited = watching.result()
    assert load.accepted == fleet.scale.flood, f"{load.accepted} of {fleet.scale.flood} requests accepted"
    assert set(answers) <= {"413", "closed"}, f"huge bodies were answered {dict(answers)}"
    assert most_bytes < MOST_BYTES, f"the gateway has {most_bytes >> 20} MiB"
    assert waited, "no ordinary client was answered"
    slowest = max(waited)
    assert slowest < ANSWERED_WITHIN_S, f"an ordinary client waited {slowest:.1f} s"
    open_ = await load.drain(600)
    assert not open_, f"{len(open_)} jobs are open"
    failed = [one.token for one in load.requests if one.ended != "succeeded"]
    assert not failed, f"{len(failed)} jobs of the flood failed: {failed[:5]}"
    posts, taken = await all_bound(fleet, bill_log)
    said = Counter(answer.status for answer in load.answers if answer.call == "post")
    return [
        (
            f"{fleet.scale.flood} requests at once, {SLOW_CLIENTS} slow clients, {HUGE_BODIES} bodies of "
            f"{HUGE_BYTES >> 20} MiB: POSTs answered {dict(said)}, huge ones {dict(answers)}; "
            f"the gateway has {most_bytes >> 20} MiB"
        ),
        (
            f"ordinary GETs beside it took {sorted(waited)[len(waited) // 2]:.2f} s in the median, {slowest:.2f} s at "
            f"most; all jobs succeeded; {taken} runs of {posts} attempts POSTed, none twice"
        ),
    ]


async def _slow_client(port: int) -> None:
    """Send a request byte by byte, again and again, each time as far as the gateway lets it."""
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                for byte in b"POST /api/tracks HTTP/1.1\r\nHost: gateway\r\nX-Slow: " + b"x" * 10_000:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.5)
            finally:
                writer.close()


async def _huge_body(address: str, answers: Counter[str]) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        try:
            answer = await client.post(f"{address}/api/tracks", content=bytes(HUGE_BYTES))
        except httpx.TransportError:
            # It may close the connection while the client still sends.
            answers["closed"] += 1
        else:
            answers[str(answer.status_code)] += 1


async def _waits(fleet: Fleet, address: str) -> list[float]:
    """How long a client waits for a page of jobs, in seconds, one after the other, until it is cancelled."""
    found: list[float] = []
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        try:
            while True:
                began = time.monotonic()
                answer = await client.get(f"{address}/api/jobs", params={"limit": "1"})
                if answer.is_success:
                    found.append(time.monotonic() - began)
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            return found


def _resident(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) << 10


ROWS = {
    30: Row(
        30,
        "A flood, slow clients, huge bodies",
        "others are answered, memory is bounded, all jobs end",
        _flood,
        unsettles=True,
    )
}
