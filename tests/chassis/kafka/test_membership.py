"""A process holds its place in the group, also after a lost connection; the embedded Kafka has one for each service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.chassis.toy import runtime_for
from tests.patience import eventually, patient

from chassis.errors import CannotStart
from chassis.kafka import membership
from chassis.kafka.membership import member
from chassis.postgres.limits import end_holder, first_free_lock
from chassis.postgres.pool import Pool, open_pool
from chassis.settings.kafka.cluster import KafkaCluster
from segue_cli.local.postgres import postgres


async def test_a_second_process_is_refused_until_the_first_has_ended(embedded_kafka: str, database_url: str) -> None:
    async with open_pool(database_url, "public") as one, open_pool(database_url, "public") as two:
        async with member(one, KafkaCluster(embedded_kafka), runtime_for()):
            with pytest.raises(CannotStart, match=r"^KAFKA_BOOTSTRAP_SERVERS: .* several replicas need a real cluster"):
                async with asyncio.timeout(patient(15)), member(two, KafkaCluster(embedded_kafka), runtime_for()):
                    pytest.fail("there is no room for it")
            async with member(two, KafkaCluster(embedded_kafka), runtime_for("another service")):
                pass
        async with member(two, KafkaCluster(embedded_kafka), runtime_for()):
            pass


async def test_a_second_process_waits_for_a_first_that_died_just_now(embedded_kafka: str, database_url: str) -> None:
    async with open_pool(database_url, "public") as one, open_pool(database_url, "public") as two:
        first = member(one, KafkaCluster(embedded_kafka), runtime_for())
        await first.__aenter__()
        second = asyncio.create_task(_start_and_stop(two, embedded_kafka))
        one.terminate()
        await asyncio.wait_for(second, patient(15))
        await first.__aexit__(None, None, None)


async def _start_and_stop(pool: Pool, servers: str) -> None:
    async with member(pool, KafkaCluster(servers), runtime_for()):
        pass


async def test_a_lost_database_does_not_matter_at_the_stop(embedded_kafka: str) -> None:
    async with (
        postgres() as server,
        open_pool(server.url, "public") as pool,
        member(pool, KafkaCluster(embedded_kafka), runtime_for()),
    ):
        await server.stop("immediate")


class HalfOpen:
    """A proxy of a server: what it forgets is closed for the client, and stays open for the server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._clients: list[asyncio.StreamWriter] = []
        self._servers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """The port of the proxy."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            self.forget()
            for each in self._servers:
                each.transport.abort()

    def forget(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        for client in self._clients:
            client.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        self._clients.append(writer)
        self._servers.append(to_server)
        for source, target in ((reader, to_server), (upstream, writer)):
            task = asyncio.create_task(_passed_on(source, target))
            self._tasks.add(task)


async def _passed_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
        target.close()


async def _holders(connection: asyncpg.Connection[asyncpg.Record]) -> list[int]:
    rows = await connection.fetch("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")
    return [row["pid"] for row in rows]


async def test_a_lock_that_the_server_keeps_for_a_lost_connection_is_taken_again(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "CHECK_EVERY_S", 0.1)
    parts = urlsplit(database_url)
    proxy, runtime = HalfOpen(parts.port or 5432), runtime_for()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(proxy.serving())
        direct = await asyncpg.connect(database_url)
        stack.push_async_callback(direct.close)
        url = database_url.replace(f":{parts.port}/", f":{port}/")
        pool = await stack.enter_async_context(open_pool(url, "public"))
        await stack.enter_async_context(member(pool, KafkaCluster(embedded_kafka), runtime))
        before = await _holders(direct)
        assert len(before) == 1
        proxy.forget()
        assert await _holders(direct) == before, "the server has not noticed"

        async def another_holds_it() -> bool:
            now = await _holders(direct)
            return runtime.failure is not None or (len(now) == 1 and now != before)

        await eventually(another_holds_it)
        assert runtime.failure is None


async def test_only_the_holder_of_the_lost_lock_is_ended(database_url: str) -> None:
    async with open_pool(database_url, "public") as pool:
        async with first_free_lock(pool, ["one", "two"]) as lock:
            assert lock is not None
            for other in (replace(lock, name="two"), replace(lock, began_at=lock.began_at + timedelta(microseconds=1))):
                await end_holder(pool, other)
                assert await lock.connection.fetchval("SELECT pg_backend_pid()") == lock.pid
        async with pool.acquire() as reused:
            assert await reused.fetchval("SELECT pg_backend_pid()") == lock.pid
            await end_holder(pool, lock)
            assert await reused.fetchval("SELECT pg_backend_pid()") == lock.pid
