"""Many runs in flight at one adapter, without webhooks. `python -m bench.extended.flight [RUNS]` measures just this."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
from aiokafka import AIOKafkaProducer
from bench.accounts import cpu_of
from bench.system import System, system

from contracts.envelope import encode
from contracts.ids import attempt_id_for, job_id_for, track_id_for
from contracts.messages.commands import RunAttempt

PART: Final = "replicate-adapter"
WATCHED_S: Final = 60.0
WITHIN_S: Final = 900.0
"""Limit for bringing the runs into flight, and for their ends, in seconds."""
LOOK_S: Final = 2.0
_STATES: Final = "SELECT state, count(*) FROM replicate_adapter.attempts GROUP BY state"


@dataclass(frozen=True, slots=True)
class Flight:
    """The cost of runs in flight, of which nothing is heard but by requests."""

    runs: int
    adapter_cpu: float
    """Cores that the adapter keeps busy while they wait."""
    postgres_cpu: float
    """The same of PostgreSQL."""
    requests_per_s: float
    """GETs at the provider per second while they wait."""
    resident_mb: float
    """The largest resident memory of the adapter, in megabytes, up to the end of the runs."""
    ended: int
    """How many of the runs have succeeded, after all of them ended at the provider."""
    ended_s: float
    """Seconds from their end at the provider until the adapter had the outputs of the last one."""


async def flight(at: System, runs: int) -> Flight:
    """Have the adapter make that many runs, watch them wait, let all of them end, and collect their outputs.

    Their commands come from here, so that no job is in the way. Raises TimeoutError if they do not end in time.
    """
    await _command(at.kafka, runs)
    await _until(at, "running", runs)
    await asyncio.sleep(LOOK_S)
    before, began = await at.counts(), time.perf_counter()
    with cpu_of(at.parts) as cpu:
        await asyncio.sleep(WATCHED_S)
    took_s = time.perf_counter() - began
    asked = (await at.counts() - before)["replicate GET"]
    waiting_mb = at.resident_mb(PART)
    await at.end_held_runs()
    began = time.perf_counter()
    ended, ending_mb = await _until(at, "succeeded", runs)
    return Flight(
        runs,
        cpu.by_part[PART] / took_s,
        cpu.by_part["postgres"] / took_s,
        asked / took_s,
        max(waiting_mb, ending_mb),
        ended,
        time.perf_counter() - began,
    )


async def _command(kafka: str, runs: int) -> None:
    run, now = uuid.uuid4().hex[:8], datetime.now(UTC)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=20)
    async with producer:
        for n in range(runs):
            job_id = job_id_for("default", f"flight {run} {n}")
            command = RunAttempt(
                job_id=job_id,
                occurred_at=now,
                attempt_id=attempt_id_for(job_id, 1),
                provider="replicate",
                track_id=track_id_for(job_id),
                n=1,
                model="music/stable-audio-2.5",
                endpoint="stability-ai/stable-audio-2.5",
                arguments={"prompt": f"held {run} {n}", "duration": 2},
                modality="music",
                start_within_s=3_600,
                run_within_s=7_200,
                deadline_at=now + timedelta(hours=4),
            )
            record = encode(command, source="bench", traceparent=None)
            await producer.send(record.topic, record.value, record.key, headers=list(record.headers))


async def _until(at: System, state: str, wanted: int) -> tuple[int, float]:
    """Wait until so many attempts are in the state; returns their number, and the largest resident memory meanwhile."""
    resident_mb = 0.0
    connection = await asyncpg.connect(at.database_url)
    try:
        async with asyncio.timeout(WITHIN_S):
            while True:
                states = Counter({str(row["state"]): int(row["count"]) for row in await connection.fetch(_STATES)})
                resident_mb = max(resident_mb, at.resident_mb(PART))
                if states[state] >= wanted:
                    return states[state], resident_mb
                await asyncio.sleep(LOOK_S)
    finally:
        await connection.close()


async def main(runs: int) -> None:
    """Measure on the embedded cluster, and print the figures."""
    async with system("embedded", webhooks=False) as at:
        print(await flight(at, runs))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else 20_000))
