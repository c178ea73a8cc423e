"""Rows 18, 32 and 39: groups lose their offsets or are reset to the beginning; consumers block or lose their tasks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.admin import DeleteGroupsRequest

from chaos.cluster.fleet import Fleet
from chaos.cluster.replica import Replica
from chaos.cluster.topics import GROUPS
from chaos.load.clients import Load
from chaos.rows.ambiguous import all_bound
from chaos.rows.base import GAPS, RATE, TWICE, Row
from chaos.rows.probes import (
    BillLog,
    MetricDeltas,
    caught_up,
    count,
    ended,
    fetch,
    finished_job,
    now,
    wait_for,
)
from chassis.kafka.topics import admin
from chassis.runtime.watchdog import BLOCKED_LOOP_LIMIT_S
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import TOPICS

JOBS_OVER: Final = 10
FINISHED: Final = """
SELECT j.job_id, j.version FROM log_sink.jobs j WHERE j.status IN ('succeeded', 'failed', 'cancelled')
"""


async def _offsets_lost(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    return await _read_again(fleet, load, _delete, "deleted")


async def _offsets_reset(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    return await _read_again(fleet, load, _reset, "reset to the earliest offset")


async def _read_again(
    fleet: Fleet, load: Load, forget: Callable[[Fleet, Sequence[str]], Awaitable[None]], how: str
) -> list[str]:
    began, bill_log = await now(fleet), BillLog(fleet)
    down = [one for group in GROUPS for one in fleet.replicas(group)]
    async with load.running(RATE):
        await load.wait_for_requests(20)

        async def some_over() -> bool:
            return len(await fetch(fleet, FINISHED)) > JOBS_OVER

        await wait_for(f"more than {JOBS_OVER} jobs are over", some_over)
        before = {row["job_id"]: row["version"] for row in await fetch(fleet, FINISHED)}
        await asyncio.gather(*(one.term() for one in down))
        await forget(fleet, GROUPS)
        counts = await MetricDeltas.of(fleet, "log-sink")
        posted = {one: len(posts) for one, posts in bill_log.posts().items()}
        await asyncio.gather(*(one.start() for one in down))
        await asyncio.gather(*(one.ready() for one in down))
    assert not await load.drain(90)
    await caught_up(fleet, 90)
    after = {row["job_id"]: row["version"] for row in await fetch(fleet, FINISHED)}
    changed = {job_id: version for job_id, version in before.items() if after.get(job_id) != version}
    assert not changed, f"jobs that were over changed: {changed}"
    again = {one for one, posts in bill_log.posts().items() if len(posts) > posted.get(one, 1)}
    assert not again, f"POSTed again: {again}"
    assert not await count(fleet, TWICE, began)
    assert not await count(fleet, GAPS)
    repeated = int(await counts.since("segue_sink_repeated_total"))
    assert repeated > 0, "nothing was read again"
    posts, taken = await all_bound(fleet, bill_log)
    return [
        f"{len(GROUPS)} groups {how}; the sink read {repeated} records again, and dropped them",
        f"{len(before)} jobs that were over are as they were; {taken} runs of {posts} attempts POSTed, none again",
    ]


async def _delete(fleet: Fleet, groups: Sequence[str]) -> None:
    async with admin(KafkaCluster(fleet.env["KAFKA_BOOTSTRAP_SERVERS"])) as client:
        for group in groups:

            async def gone(group: str = group) -> bool:
                node = await client.find_coordinator(group)
                answer: Any = await client._send_request_to_node(node, DeleteGroupsRequest([group]))
                return [code for _, code in answer.results] == [0]

            await wait_for(f"the group {group} is deleted", gone)


async def _reset(fleet: Fleet, groups: Sequence[str]) -> None:
    servers = fleet.env["KAFKA_BOOTSTRAP_SERVERS"]
    for group in groups:
        topics = [topic.name for topic in TOPICS if group in topic.groups]
        async with AIOKafkaConsumer(
            *topics, bootstrap_servers=servers, group_id=group, enable_auto_commit=False
        ) as consumer:
            beginnings = await consumer.beginning_offsets(consumer.assignment())
            await consumer.commit(dict(beginnings))


WATCHDOG_S: Final = 60.0


async def _lost_minds(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    bill_log = BillLog(fleet)
    fal, replicate = fleet.replicas("fal-adapter"), fleet.replicas("replicate-adapter")
    leaking = fal[1]
    ways = {
        fal[0]: "cancelled_consumer",
        replicate[0]: "dead_coordinator",
        fleet.replica("orchestrator-1"): f"before_handler_tx:{rng.randint(1, 3)}:block",
    }
    async with load.running(RATE):
        await leaking.kill()
        await leaking.start("leaked_cancellation")
        took = dict(zip(ways, await asyncio.gather(*(_exits(one, at) for one, at in ways.items())), strict=True))
        assert leaking.running, f"{leaking.name} ended of a cancellation that leaked out of a handler"
        assert "leaked_cancellation" in leaking.log.read_text(), "no cancellation leaked"
        await asyncio.gather(*(one.start() for one in ways))
        await asyncio.gather(*(one.ready() for one in ways))
        resumed = await load.submit("after it")
        assert (await finished_job(load, resumed))["status"] == "succeeded"
    assert not await load.drain(60)
    posts, taken = await all_bound(fleet, bill_log)
    said = ", ".join(f"{one.name} ({at.partition(':')[0]}) {took[one]:.0f} s" for one, at in ways.items())
    return [
        f"exited by their own watchdogs after: {said} (a blocked loop's limit is {BLOCKED_LOOP_LIMIT_S:.0f} s)",
        f"{leaking.name} lived through a cancellation that leaked out of its handler",
        f"work resumed: {len(load.requests)} jobs ended; {taken} runs of {posts} attempts POSTed, none twice",
    ]


async def _exits(replica: Replica, point: str) -> float:
    """Start a replica with a faulty consumer; returns the seconds until its watchdog ended it."""
    await replica.kill()
    begun_at = replica.log.stat().st_size
    await replica.start(point)

    async def begun() -> bool:
        with replica.log.open("rb") as log:
            log.seek(begun_at)
            return b'"event": "crash point"' in log.read()

    await wait_for(f"{replica.name} misbehaves", begun)
    began = monotonic()
    code = await ended(replica, WATCHDOG_S)
    assert code != 0, f"{replica.name} ended as if all were well"
    return monotonic() - began


ROWS = {
    row.number: row
    for row in (
        Row(18, "Offsets of all groups lost", "read again from the beginning; nothing is done again", _offsets_lost),
        Row(39, "All groups reset to the earliest offset", "read again; nothing is done again", _offsets_reset),
        Row(32, "Cancelled, blocked and dead consumers", "the watchdog exits within 60 s, work resumes", _lost_minds),
    )
}
