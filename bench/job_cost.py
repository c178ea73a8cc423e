"""What one failover job costs that runs alone: statements, commits, records, and what the providers see of it."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from bench.accounts import Statements
from bench.ends import Ends, job_ends
from bench.system import System

from contracts.topics import PARTITIONS, SERVICES, TOPICS

IDLE_S: Final = 10.0
SETTLED_WITHIN_S: Final = 120.0
_PLACES: Final = [TopicPartition(topic.name, n) for topic in TOPICS for n in range(PARTITIONS)]
_GROUPS: Final = {topic.name: topic.groups for topic in TOPICS}
_UNPUBLISHED: Final = """
SELECT EXISTS (TABLE orchestrator.outbox) OR EXISTS (TABLE fal_adapter.outbox)
    OR EXISTS (TABLE replicate_adapter.outbox)
"""


@dataclass(frozen=True, slots=True)
class Window:
    """What was counted from the submit of one job until all services had dealt with everything that came of it."""

    took_s: float
    statements: Statements
    records: Counter[str]
    """New records by topic."""
    providers: Counter[str]
    """Requests by provider and method, and connections by provider."""


@dataclass(frozen=True, slots=True)
class JobCost:
    """Counts of one failover job; see `job_cost` for how they are made."""

    statements: dict[str, int]
    commits: dict[str, int]
    records: dict[str, int]
    requests: dict[str, int]
    connections: dict[str, int]
    transactions: list[str]
    """The transactions of the job that ran the fewest statements, as text."""

    def rows(self) -> dict[str, int]:
        """The counts by name, as docs/job-budget.md lists them."""
        groups = {
            "SQL statements": self.statements,
            "commits": self.commits,
            "records": self.records,
            "requests": self.requests,
            "connections": self.connections,
        }
        return {f"{group}: {name}": n for group, counts in groups.items() for name, n in counts.items()}


async def job_cost(system: System, jobs: int, warm_up: int = 3) -> JobCost:
    """Run failover jobs one after the other, each with an idempotency key, and count what each of them causes.

    Each count is the median of the jobs, the lower one of two. Transactions of texts that also occur without any job,
    as those of periodic queries, are left out.
    """
    run = uuid.uuid4().hex[:8]
    async with job_ends(system.kafka) as ends, _settling(system) as settle:
        begin = await system.statements.start()
        windows = [await _window(system, ends, settle, f"refused {run} {n}") for n in range(warm_up + jobs)][warm_up:]
        idle = await _idle(system, max(IDLE_S, 2 * max(window.took_s for window in windows)))
        await system.statements.stop(begin)
    ran = [window.statements.without(idle) for window in windows]
    providers = [window.providers for window in windows]
    cheapest = min(ran, key=lambda each: each.statements().total())
    return JobCost(
        median([each.statements() for each in ran]),
        median([each.commits() for each in ran]),
        median([window.records for window in windows]),
        {name: n for name, n in median(providers).items() if not name.endswith(" connections")},
        {
            name.removesuffix(" connections"): median(providers).get(name, 0)
            for name in ("fal connections", "replicate connections")
        },
        [f"{n} x {service}: {'; '.join(texts)}" for (service, texts), n in sorted(cheapest.committed.items())],
    )


def median(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """For each name, the median of its counts, the lower one of two; a count that lacks it is 0, and is not named.

    What one of ten jobs causes by chance does not count, and what all but one cause does.
    """
    names = sorted({name for each in counts for name in each})
    return {name: n for name in names if (n := statistics.median_low([each.get(name, 0) for each in counts]))}


async def _idle(system: System, seconds: float) -> Statements:
    """What runs without any job, for longer than any of the jobs took."""
    begin = await system.statements.mark()
    await asyncio.sleep(seconds)
    return system.statements.between(begin, await system.statements.mark())


async def _window(system: System, ends: Ends, settle: Settling, prompt: str) -> Window:
    began = time.perf_counter()
    begin, records, providers = await system.statements.mark(), await settle.ends(), await system.counts()
    job_id = await system.submit(prompt, key=prompt)
    if not await ends.of([job_id]):
        raise RuntimeError(f"job {job_id} did not succeed")
    await settle.settled()
    end, after, seen = await system.statements.mark(), await settle.ends(), await system.counts()
    new: Counter[str] = Counter()
    for place, offset in after.items():
        new[place.topic] += offset - records[place]
    return Window(time.perf_counter() - began, system.statements.between(begin, end), new, seen - providers)


class Settling:
    """Waits until every service has dealt with everything."""

    def __init__(
        self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, database: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        self._consumer = consumer
        self._admin = admin
        self._database = database

    async def ends(self) -> dict[TopicPartition, int]:
        """The end offset of each partition."""
        found: dict[TopicPartition, int] = await self._consumer.end_offsets(_PLACES)
        return found

    async def settled(self) -> None:
        """Wait until no outbox has a row, and each group has committed all records. Raises TimeoutError."""
        async with asyncio.timeout(SETTLED_WITHIN_S):
            while await self._busy():  # noqa: ASYNC110 - it depends on other processes
                await asyncio.sleep(0.05)

    async def _busy(self) -> bool:
        if await self._database.fetchval(_UNPUBLISHED):
            return True
        ends = await self.ends()
        for group in SERVICES:
            read = [place for place in _PLACES if group in _GROUPS[place.topic]]
            if not read:
                continue
            committed = await self._admin.list_consumer_group_offsets(group, partitions=read)
            if any(ends[place] > max(committed[place].offset, 0) for place in read):
                return True
        return False


@asynccontextmanager
async def _settling(system: System) -> AsyncIterator[Settling]:
    admin = AIOKafkaAdminClient(bootstrap_servers=system.kafka)
    database = await asyncpg.connect(system.database_url)
    try:
        await admin.start()
        async with AIOKafkaConsumer(bootstrap_servers=system.kafka) as consumer:
            yield Settling(consumer, admin, database)
    finally:
        await admin.close()
        await database.close()
