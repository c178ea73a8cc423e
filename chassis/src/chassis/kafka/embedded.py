"""The embedded Kafka of `segue up`, which has room for one member in each group of consumers.

It is the mock cluster of librdkafka, told by its id. A second member would wait in its join for ever, and hold up the
first with every try: https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka_mock.h
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
    """Be the only member of the service's group for the length of the block, where the cluster is the embedded one.

    Raises CannotStart where another process has been one for the three seconds after which a dead one is forgotten.
    """
    await require_topics(bootstrap_servers, ())
    cluster = await _cluster_id(bootstrap_servers)
    stack = AsyncExitStack()
    try:
        if cluster.startswith(_MOCK):
            await _join(stack, pool, f"segue.member.{cluster}.{runtime.service}", runtime)
        yield
    finally:
        with suppress(*TRANSIENT):  # The database has let go of it by itself, where it went away meanwhile.
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
