"""A database that stops answering at any moment: every wait ends in time, and the pool recovers afterwards."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from chaos.cluster.proxy import Proxy
from chassis.postgres import limits
from chassis.postgres.connect import connect
from chassis.postgres.limits import Lease, NotResponding, bounded, drop_idle, leased, transaction
from chassis.postgres.pool import TRANSIENT, Connection, Pool, open_pool

WITHIN_S = 1.0
SLACK_S = 8.0
"""For a slow machine; what waits for the server itself would wait for 30 s."""


@contextmanager
def bounded_time(limit_s: float = WITHIN_S) -> Iterator[None]:
    """Asserts that the block ends within the limit, times the patience of the machine."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit_s + SLACK_S


@asynccontextmanager
async def behind_a_proxy(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy in front of the database, and the URL of the database through it."""
    place = urlsplit(url)
    async with Proxy(place.hostname or "", place.port or 0).running() as proxy:
        yield proxy, place._replace(netloc=f"{place.username}@127.0.0.1:{proxy.listens_at}").geturl()


@pytest_asyncio.fixture
async def silenced(database_url: str) -> AsyncIterator[tuple[Proxy, Pool]]:
    """A proxy, and a pool of connections through it."""
    async with behind_a_proxy(database_url) as (proxy, url), open_pool(url, "shop", max_size=4) as pool:
        yield proxy, pool


async def fill(pool: Pool, connections: int = 4) -> None:
    """Open `connections` idle connections in the pool."""

    async def use() -> None:
        async with bounded(pool, 30) as connection:
            await connection.execute("SELECT pg_sleep(0.2)")

    await asyncio.gather(*(use() for _ in range(connections)))
    assert pool.get_idle_size() == connections


async def statement(proxy: Proxy, pool: Pool) -> None:
    async with bounded(pool, WITHIN_S) as connection:
        proxy.blackhole = True
        await connection.fetchval("SELECT 1")


async def first_statement(proxy: Proxy, pool: Pool) -> None:
    proxy.blackhole = True
    async with transaction(pool, WITHIN_S) as connection:
        await connection.fetchval("SELECT 1")


async def new_connection(proxy: Proxy, pool: Pool) -> None:
    proxy.reset_all()
    proxy.blackhole = True
    while True:  # Connections that were reset fail at once.
        try:
            async with bounded(pool, WITHIN_S) as connection:
                await connection.fetchval("SELECT 1")
        except asyncpg.ConnectionDoesNotExistError:
            continue


async def commit(proxy: Proxy, pool: Pool) -> None:
    async with transaction(pool, WITHIN_S) as connection:
        await connection.fetchval("SELECT 1")
        proxy.blackhole = True


async def rollback(proxy: Proxy, pool: Pool) -> None:
    async with transaction(pool, 60) as connection:
        await connection.fetchval("SELECT 1")
        proxy.blackhole = True
        raise TimeoutError


async def answers_only(proxy: Proxy, pool: Pool) -> None:
    async with transaction(pool, WITHIN_S) as connection:
        proxy.drop_responses = True
        await connection.fetchval("SELECT 1")


@pytest.mark.parametrize("moment", [statement, first_statement, new_connection, commit, rollback, answers_only])
@pytest.mark.parametrize("idle", [1, 4])
async def test_a_server_that_does_not_answer_blocks_nobody_and_the_pool_recovers(
    silenced: tuple[Proxy, Pool], moment: Callable[[Proxy, Pool], Awaitable[None]], idle: int
) -> None:
    proxy, pool = silenced
    await fill(pool, idle)
    with bounded_time(), pytest.raises(NotResponding):
        await moment(proxy, pool)
    proxy.heal()
    # No connection that was open during the outage is used again: every query is answered, from the first one on.
    with bounded_time(0):
        assert await asyncio.gather(*(answer(pool) for _ in range(4))) == [1, 1, 1, 1]


async def answer(pool: Pool, within_s: float = 30) -> int:
    async with bounded(pool, within_s) as connection:
        found: int = await connection.fetchval("SELECT 1")
        return found


async def test_a_new_connection_that_stops_answering_during_its_setup_blocks_nobody(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence: list[Proxy] = []

    async def connect_and_stop_answering(*args: Any, **more: Any) -> Any:
        made = await connect(*args, **more)
        for proxy in silence:
            proxy.blackhole = True
        return made

    monkeypatch.setattr("chassis.postgres.pool.connect", connect_and_stop_answering)
    async with behind_a_proxy(database_url) as (proxy, url), open_pool(url, "shop", max_size=1) as pool:
        drop_idle(pool)
        silence.append(proxy)
        with bounded_time(), pytest.raises(NotResponding):
            await answer(pool, WITHIN_S)
        silence.clear()
        proxy.heal()
        assert await answer(pool) == 1


async def test_a_connection_is_released_without_waiting_for_the_server(silenced: tuple[Proxy, Pool]) -> None:
    proxy, pool = silenced
    with bounded_time():
        async with bounded(pool, WITHIN_S) as connection:
            found = await connection.fetchval("SELECT 1")
            proxy.blackhole = True
    assert (found, pool.get_idle_size()) == (1, 1)


async def test_a_transaction_that_was_left_open_is_rolled_back_at_the_release(database_url: str) -> None:
    async with open_pool(database_url, "public", max_size=1) as pool:
        async with bounded(pool, 30) as connection:
            await connection.execute("BEGIN")
            await connection.execute("CREATE TABLE things (id int)")
            before = await connection.fetchval("SELECT pg_backend_pid()")
        async with bounded(pool, 30) as connection:
            assert await connection.fetchval("SELECT pg_backend_pid()") == before
            assert await connection.fetchval("SELECT to_regclass('things')") is None


async def test_a_result_is_returned_although_the_connection_cannot_be_released(
    silenced: tuple[Proxy, Pool],
) -> None:
    proxy, pool = silenced
    with bounded_time():
        async with bounded(pool, WITHIN_S) as connection:
            await connection.execute("BEGIN")
            found = await connection.fetchval("SELECT 1")
            proxy.blackhole = True
    assert (found, pool.get_size()) == (1, 0)


async def test_work_without_a_time_limit_acquires_and_releases_in_time(
    silenced: tuple[Proxy, Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, pool = silenced
    monkeypatch.setattr(limits, "LOOP_LIMIT_S", WITHIN_S)
    with bounded_time(2.0):
        async with bounded(pool, None) as connection:
            await connection.execute("BEGIN")
            proxy.blackhole = True
    with bounded_time(), pytest.raises(NotResponding):
        async with bounded(pool, None):
            pytest.fail("there is no connection to be had")


@pytest.mark.parametrize("limit_s", [60.0, None])
async def test_a_task_cancelled_during_the_outage_ends_at_once_and_stays_cancelled(
    silenced: tuple[Proxy, Pool], limit_s: float | None
) -> None:
    proxy, pool = silenced
    asked = asyncio.Event()

    async def wait() -> None:
        async with transaction(pool, limit_s) as connection:
            proxy.blackhole = True
            asked.set()
            await connection.fetchval("SELECT 1")

    waiting = asyncio.create_task(wait())
    await asked.wait()
    with bounded_time(0.5):
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


class SlowPool:
    """A pool that is slow to take a connection back, and then fails, in a task of its own, as asyncpg's."""

    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def release(self, _connection: object, *, timeout: float) -> None:
        await asyncio.shield(self._release())

    async def _release(self) -> None:
        self.asked.set()
        await self.go.wait()
        raise TimeoutError


async def test_the_error_of_a_release_whose_task_was_cancelled_is_not_logged() -> None:
    logged: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    pool = SlowPool()
    releasing = asyncio.create_task(Lease(cast("Any", None), None).release(cast("Any", pool)))
    await pool.asked.wait()
    releasing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await releasing
    del releasing
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert others
    pool.go.set()
    await asyncio.wait(others)
    del others
    gc.collect()
    assert logged == []


async def test_a_wait_for_a_locked_table_times_out_and_the_connection_is_kept(database_url: str) -> None:
    async with open_pool(database_url, "public", max_size=1) as pool:
        async with bounded(pool, 30) as connection:
            await connection.execute("CREATE TABLE things (id int)")
            before = await connection.fetchval("SELECT pg_backend_pid()")
        other = await asyncpg.connect(database_url)
        try:
            async with other.transaction():
                await other.execute("LOCK TABLE public.things")
                with bounded_time(), pytest.raises(TimeoutError) as given_up:
                    async with transaction(pool, WITHIN_S) as connection:
                        await connection.fetch("SELECT * FROM things")
                assert not isinstance(given_up.value, NotResponding)
                assert await waiting_for_locks(other) == 0
        finally:
            await other.close()
        async with bounded(pool, 30) as connection:
            assert await connection.fetchval("SELECT pg_backend_pid()") == before


async def waiting_for_locks(connection: Connection) -> int:
    found: int = await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return found


async def test_a_pool_without_a_free_connection_is_busy_and_not_unavailable(database_url: str) -> None:
    async with open_pool(database_url, "public", max_size=1) as pool, bounded(pool, 30):
        with bounded_time(), pytest.raises(TimeoutError) as given_up:
            async with bounded(pool, WITHIN_S):
                pytest.fail("there is only one connection")
    assert not isinstance(given_up.value, NotResponding)


async def test_a_stopped_server_process_blocks_nobody(database_url: str) -> None:
    async with open_pool(database_url, "public", max_size=2) as pool:
        async with bounded(pool, 30) as connection:
            stopped = await connection.fetchval("SELECT pg_backend_pid()")
        os.kill(stopped, signal.SIGSTOP)
        try:
            with bounded_time(), pytest.raises(NotResponding):
                async with transaction(pool, WITHIN_S) as connection:
                    await connection.fetchval("SELECT 1")
            with bounded_time(0):
                assert await answer(pool) == 1
        finally:
            os.kill(stopped, signal.SIGCONT)


async def test_an_error_of_the_work_is_raised_unchanged_and_rolled_back(database_url: str) -> None:
    async with open_pool(database_url, "public", max_size=1) as pool:
        with pytest.raises(ZeroDivisionError):
            await make_things_and_fail(pool)
        with pytest.raises(asyncpg.UndefinedTableError):
            async with bounded(pool, 30) as connection:
                await connection.fetch("SELECT * FROM things")
        async with leased(pool, 30) as lease, lease.transaction(isolation="repeatable_read", readonly=True):
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await lease.connection.execute("CREATE TABLE things (id int)")


async def make_things_and_fail(pool: Pool) -> None:
    async with transaction(pool, 30) as connection:
        await connection.execute("CREATE TABLE things (id int)")
        raise ZeroDivisionError


async def test_a_pool_is_closed_in_time_although_its_connections_are_in_use(database_url: str) -> None:
    async with behind_a_proxy(database_url) as (proxy, url):
        with bounded_time(5):
            async with open_pool(url, "shop", max_size=2) as pool:
                proxy.blackhole = True
                using = asyncio.create_task(answer(pool))
                await asyncio.sleep(0)
        with pytest.raises(TRANSIENT):
            await using
