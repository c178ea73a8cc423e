"""Which jobs have ended, from Kafka: nothing is asked of the gateway for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaConsumer

from contracts.envelope import Envelope, decode
from contracts.messages.jobs import JobCancelled, JobFailed, JobSucceeded
from contracts.topics import JOBS

ALL_END_WITHIN_S = 600.0


class Ends:
    """The jobs that have ended since reading began."""

    def __init__(self) -> None:
        self._succeeded: dict[str, bool] = {}
        self._more = asyncio.Event()

    async def of(self, job_ids: Collection[str]) -> int:
        """Wait until these jobs have ended; returns how many succeeded. Raises TimeoutError after ten minutes."""
        async with asyncio.timeout(ALL_END_WITHIN_S):
            while not self._succeeded.keys() >= set(job_ids):
                self._more.clear()
                await self._more.wait()
        return sum(self._succeeded[job_id] for job_id in job_ids)

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        """Take in the events of jobs until cancelled."""
        while True:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    said = decode(record.headers, record.value)
                    if isinstance(said, Envelope) and isinstance(said.message, JobSucceeded | JobFailed | JobCancelled):
                        self._succeeded[said.message.job_id] = isinstance(said.message, JobSucceeded)
            self._more.set()


@asynccontextmanager
async def job_ends(kafka: str) -> AsyncIterator[Ends]:
    """Read the ends of jobs from now on, for the length of the block."""
    async with AIOKafkaConsumer(JOBS.name, bootstrap_servers=kafka, fetch_max_wait_ms=20) as consumer:
        await consumer.seek_to_end()
        ends = Ends()
        reading = asyncio.create_task(ends.read(consumer))
        try:
            yield ends
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
