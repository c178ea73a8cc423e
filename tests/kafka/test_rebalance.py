"""Rebalances on a real Apache Kafka: members join and leave under load, partitions are lost during a batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from tests.chassis.toy import Toy, job, lag, read, request, runtime_for, send, toy, until

from chassis.delivery import progress
from contracts.topics import DEAD_LETTERS, JOBS, REQUESTS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


async def handled(made: Toy, count: int) -> bool:
    return await made.commits() == dict.fromkeys(map(job, range(count)), 1)


async def committed(servers: str, group: str) -> bool:
    return set((await lag(servers, group, REQUESTS.name)).values()) == {0}


async def seen(made: Toy, count: int) -> bool:
    return set(await made.commits()) == set(map(job, range(count)))


def partitions(made: Toy) -> int:
    assert made.consumer is not None
    consumer = made.consumer.subscriber.consumer
    return 0 if consumer is None else len(consumer.assignment())


async def shares(first: Toy, second: Toy) -> bool:
    return partitions(first) == partitions(second) == 3


@asynccontextmanager
async def requests_flow(servers: str, count: int) -> AsyncIterator[None]:
    """Send requests in small groups during the block, and the remaining ones at its end."""
    rest = [request(n) for n in range(count)]
    over = asyncio.Event()

    async def flow() -> None:
        while rest:
            portion = len(rest) if over.is_set() else 20
            await send(servers, rest[:portion], partition=None)
            del rest[:portion]

    task = asyncio.create_task(flow())
    try:
        yield
    finally:
        over.set()
        await task


async def test_members_join_and_leave_under_load_and_each_effect_happens_once(servers: str, database_url: str) -> None:
    async with toy(servers, database_url, runtime_for("pair")) as first:
        async with requests_flow(servers, 3000):
            for _ in range(2):
                async with toy(servers, database_url, runtime_for("pair")) as second:
                    await until(partial(shares, first, second))
                    assert second.runtime.unhealthy() is None
                assert first.runtime.unhealthy() is None
        await until(lambda: seen(first, 3000), within_s=60)
        await until(lambda: committed(servers, "pair"))
        repeats = sum((await first.commits()).values()) - 3000
        told = [record.key for record in await read(servers, JOBS.name, 3000)]
        assert first.runtime.unhealthy() is None
    assert sorted(key or b"" for key in told) == sorted(job(n).encode() for n in range(3000)), "once each, all of them"
    assert repeats < 3000
    assert await read(servers, DEAD_LETTERS.name, 0) == []


async def test_after_lost_partitions_a_batch_is_committed_for_the_remaining_ones(
    servers: str, database_url: str
) -> None:
    for partition in range(6):
        await send(servers, [request(partition, "wait")], partition=partition)
    with structlog.testing.capture_logs() as logs:
        async with toy(servers, database_url, runtime_for("holder")) as first:

            async def holds() -> bool:
                return bool(first.calls)

            await until(holds)
            async with toy(servers, database_url, runtime_for("holder"), mended=True) as second:
                await until(lambda: shares(first, second))
                first.gate.set()
                await until(lambda: seen(first, 6))
                await send(servers, [request(n) for n in range(6, 60)], partition=None)
                await until(lambda: seen(first, 60))
                await until(lambda: committed(servers, "holder"))
                assert (first.runtime.unhealthy(), second.runtime.unhealthy()) == (None, None)
                assert any(None in reasons for reasons in first.calls), "the first member goes on with what it has"
    assert [line for line in logs if line["log_level"] == "error"] == []
    told = [record.key for record in await read(servers, JOBS.name, 60)]
    assert sorted(key or b"" for key in told) == sorted(job(n).encode() for n in range(60))


class BlockedListener(ConsumerRebalanceListener):
    """Makes a member block in a rebalance while it still sends heartbeats."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def on_partitions_revoked(self, revoked: object) -> None:
        if revoked:
            await self.over.wait()

    async def on_partitions_assigned(self, assigned: object) -> None:
        """Nothing."""


async def test_a_rebalance_that_does_not_finish_is_reported_and_consuming_resumes_by_itself(
    servers: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "POLL_LIMIT_S", 3.0)
    hangs = BlockedListener()
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(toy(servers, database_url, runtime_for("stuck")))

        async def says(what: str) -> bool:
            return what in str(made.runtime.unready())

        async def join(listener: BlockedListener | None) -> AIOKafkaConsumer:
            member = AIOKafkaConsumer(
                bootstrap_servers=servers,
                group_id="stuck",
                rebalance_timeout_ms=60_000,
                partition_assignment_strategy=(RangePartitionAssignor,),
            )
            member.subscribe([REQUESTS.name], listener=listener)
            return await stack.enter_async_context(member)

        hanging = await join(hangs)
        await hanging.getmany(timeout_ms=100)
        joining = asyncio.create_task(join(None))
        await until(partial(says, "the group has been rebalancing for"))
        assert made.runtime.unhealthy() is None
        hangs.over.set()
        await joining
        await until(partial(says, "None"))
