"""The identity of a process in its consumer group, which a process that takes its place has again.

Kafka knows a member by its `group.instance.id`. If a killed process is restarted within the session timeout under the
same one, it gets its partitions back at once, and no other member is disturbed. A new id would be a new member: the
whole group would stop until the session of the dead one has ended.

The ids are numbers, the lowest of which that no other process holds is taken. Each is an advisory lock in the
service's database, which the death of its holder releases. A process that loses the connection takes it again; the
server may not have noticed, so it first ends the server process that held it, and no other. So no process needs a name
of its own in its settings, and no two have the same. The database's own id is part of it: processes that use different
ones share no locks.

The embedded Kafka of `segue up` knows no such ids and supports one member in each group: the join of a second member
never ends, and each of its attempts blocks the first. It is the mock cluster of librdkafka, recognised by its id:
https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka_mock.h
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from aiokafka.errors import KafkaError

from chassis.errors import CannotStart, CannotStartYet
from chassis.kafka.topics import START_LIMIT_S, admin, require_topics
from chassis.postgres.limits import LOOP_LIMIT_S, HeldLock, bounded, end_holder, first_free_lock
from chassis.postgres.pool import TRANSIENT, Pool
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime
from chassis.settings.kafka.cluster import KafkaCluster

MEMBERS: Final = 1000
"""The most processes of one service."""
CHECK_EVERY_S: Final = 5.0
_DATABASE: Final = """
SELECT system_identifier || '.' || oid FROM pg_control_system(), pg_database WHERE datname = current_database()
"""
_MOCK: Final = "mockCluster"
_TRIES: Final = 15
_EVERY_S: Final = 0.2


@asynccontextmanager
async def member(pool: Pool, kafka: KafkaCluster, runtime: Runtime) -> AsyncIterator[None]:
    """Hold an identity in the service's consumer group for the length of the block: `runtime.member`.

    It is None with the embedded cluster. Raises CannotStart if another process is the only possible member there, and
    still is after three seconds, the time after which a dead one is removed.
    """
    await require_topics(kafka)
    cluster = await _cluster_id(kafka)
    embedded = cluster.startswith(_MOCK)
    prefix = f"segue.member.{cluster}.{kafka.names.group(runtime.service)}."
    names = [f"{prefix}{n}" for n in range(1 if embedded else MEMBERS)]
    async with AsyncExitStack() as stack:
        lock = await stack.enter_async_context(_Lock(pool, runtime).held(names))
        if not embedded:
            runtime.member = f"{lock.removeprefix(prefix)}.{await _database_id(pool)}"
        yield


async def _database_id(pool: Pool) -> str:
    async with bounded(pool, LOOP_LIMIT_S) as connection:
        return str(await connection.fetchval(_DATABASE))


class _Lock:
    """The lock of an identity: it is taken again after an outage of the database."""

    def __init__(self, pool: Pool, runtime: Runtime) -> None:
        self._pool = pool
        self._runtime = runtime
        self._stack = AsyncExitStack()
        self._held: HeldLock | None = None
        self._lost: HeldLock | None = None
        """The last one that was released, which the server may still hold."""

    @asynccontextmanager
    async def held(self, names: Sequence[str]) -> AsyncIterator[str]:
        """Hold the first of the locks that is free; yields its name. Raises CannotStart if none becomes free."""
        try:
            name = await self._acquired(names)
            if name is None:
                raise CannotStart(
                    "KAFKA_BOOTSTRAP_SERVERS: this is the embedded Kafka of `segue up`, which serves one process of"
                    " each service, and one is running: several replicas need a real cluster; otherwise stop that one"
                    " first"
                    if len(names) == 1
                    else f"{len(names)} processes of {self._runtime.service} are running, which is the most possible"
                )
            async with background(self._runtime, "the check of the member's lock", self._keep(name)):
                yield name
        finally:
            await self._release()

    async def _acquired(self, names: Sequence[str]) -> str | None:
        for _ in range(_TRIES):
            found = await self._stack.enter_async_context(first_free_lock(self._pool, names))
            if found is not None:
                self._held = found
                return found.name
            await self._release()
            await self._runtime.pause(_EVERY_S)
        return None

    async def _keep(self, name: str) -> None:
        while await self._runtime.pause(CHECK_EVERY_S):
            try:
                if self._held is None:
                    if self._lost is not None:
                        await end_holder(self._pool, self._lost)
                    if await self._acquired([name]) is None:
                        self._runtime.fail(f"another process has taken the place of this one in the group: {name}")
                        return
                else:
                    async with asyncio.timeout(CHECK_EVERY_S):
                        await self._held.connection.execute("SELECT 1")
            except TRANSIENT:
                await self._release()

    async def _release(self) -> None:
        self._held, self._lost = None, self._held or self._lost
        with suppress(*TRANSIENT):  # After an outage the database has released the lock itself.
            await self._stack.aclose()


async def _cluster_id(kafka: KafkaCluster) -> str:
    try:
        async with asyncio.timeout(START_LIMIT_S), admin(kafka) as client:
            return str((await client.describe_cluster())["cluster_id"])
    except (KafkaError, OSError, TimeoutError) as error:
        raise CannotStartYet(f"KAFKA_BOOTSTRAP_SERVERS: {kafka} went away: {error!r}") from error
