"""The embedded Kafka of `segue up`, which supports one member in each consumer group.

It is the mock cluster of librdkafka, recognised by its id. The join of a second member never ends, and each of its
attempts blocks the first: https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka_mock.h
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from aiokafka.errors import KafkaError

from chassis.errors import CannotStart
from chassis.kafka.topics import START_LIMIT_S, admin, require_topics
from chassis.postgres.limits import advisory_lock
from chassis.postgres.pool import TRANSIENT, Pool
from chassis.runtime.runtime import Runtime

_MOCK: Final = "mockCluster"
_TRIES: Final = 15
_EVERY_S: Final = 0.2


@asynccontextmanager
async def alone_where_embedded(pool: Pool, bootstrap_servers: str, runtime: Runtime) -> AsyncIterator[None]:
    """If the cluster is the embedded one, hold the right to be the group's only member for the length of the block.

    Raises CannotStart if another process still holds it after three seconds, the time after which a dead one is
    removed.
    """
    await require_topics(bootstrap_servers, ())
    cluster = await _cluster_id(bootstrap_servers)
    stack = AsyncExitStack()
    try:
        if cluster.startswith(_MOCK):
            await _join(stack, pool, f"segue.member.{cluster}.{runtime.service}", runtime)
        yield
    finally:
        with suppress(*TRANSIENT):  # After an outage the database has released the lock itself.
            await stack.aclose()


async def _join(stack: AsyncExitStack, pool: Pool, name: str, runtime: Runtime) -> None:
    for _ in range(_TRIES):
        if await stack.enter_async_context(advisory_lock(pool, name)):
            return
        await stack.aclose()
        await runtime.pause(_EVERY_S)
    raise CannotStart(
        "KAFKA_BOOTSTRAP_SERVERS: this is the embedded Kafka of `segue up`, which serves one process of each service,"
        " and one is running: several replicas need a real cluster; otherwise stop that one first"
    )


async def _cluster_id(bootstrap_servers: str) -> str:
    try:
        async with asyncio.timeout(START_LIMIT_S), admin(bootstrap_servers) as client:
            return str((await client.describe_cluster())["cluster_id"])
    except (KafkaError, OSError, TimeoutError) as error:
        raise CannotStart(f"KAFKA_BOOTSTRAP_SERVERS: {bootstrap_servers} went away: {error!r}") from error
