"""Through a connection pooler no session state is used; on a direct connection it is."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import ModuleType

import asyncpg
import pytest
from tests.chassis.bouncer import PROGRAM, pgbouncer
from tests.patience import patient

import adapter_kit
import gateway
import log_sink
import orchestrator
from chassis.errors import CannotStart
from chassis.postgres.limits import advisory_lock
from chassis.postgres.pool import Pool, database_name, migrate, open_pool

SCHEMAS: dict[str, ModuleType] = {
    "orchestrator": orchestrator,
    "fal_adapter": adapter_kit,
    "replicate_adapter": adapter_kit,
    "log_sink": log_sink,
    "gateway": gateway,
}
needs_pgbouncer = pytest.mark.skipif(
    PROGRAM is None, reason="no pgbouncer on the PATH: install it, as with apt-get install pgbouncer"
)
PREPARED = "SELECT count(*) FROM pg_prepared_statements"
PLACE = "SELECT current_schema()::text || ' ' || current_setting('statement_timeout') AS place"


@pytest.fixture
async def through(database_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a PgBouncer in transaction mode, with two sessions for all clients."""
    async with pgbouncer(database_url, tmp_path) as url:
        yield url


@pytest.fixture
async def pools(database_url: str) -> AsyncIterator[tuple[Pool, Pool]]:
    """Two pools on a direct connection: one configured for a pooler, one not."""
    async with AsyncExitStack() as stack:
        for schema in ("one", "two"):
            connection = await stack.enter_async_context(_connected(database_url))
            await connection.execute(f"CREATE SCHEMA {schema}")
        told = await stack.enter_async_context(open_pool(f"{database_url}?pgbouncer=true", "one", max_size=1))
        yield told, await stack.enter_async_context(open_pool(database_url, "two", max_size=1))


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_statements_are_prepared_on_a_direct_connection_only(pools: tuple[Pool, Pool]) -> None:
    pooled, direct = pools
    for pool, prepared in ((pooled, 0), (direct, 1)):
        async with pool.acquire() as connection:
            await connection.execute("DISCARD PLANS")
            await connection.fetchval("SELECT $1::int", 1)
            assert (await connection.fetchval(PREPARED) > 0) is bool(prepared)


async def test_every_statement_runs_with_the_settings_and_leaves_none_behind(pools: tuple[Pool, Pool]) -> None:
    pooled, _ = pools
    async with pooled.acquire() as connection:
        assert await connection.fetchval(PLACE) == "one 25s"
        assert dict(await connection.fetchrow(PLACE) or {}) == {"place": "one 25s"}
        assert (await connection.fetch(PLACE))[0][0] == "one 25s"
        await connection.execute("CREATE TABLE things (id int)")
        await connection.executemany("INSERT INTO things VALUES ($1)", [(1,), (2,)])
        assert await connection.execute("DELETE FROM things WHERE id = $1", 1) == "DELETE 1"
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            assert await connection.fetchval(PLACE) == "one 25s"
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                async with connection.transaction():
                    await connection.execute("INSERT INTO things VALUES (3)")
        assert await connection.fetchval("SELECT count(*) FROM one.things") == 1
        assert await connection.fetchval("""SELECT '{"a": [1]}'::jsonb""") == {"a": [1]}
        bare = io.BytesIO()  # COPY is not wrapped: it runs without the settings.
        await connection.copy_from_query(PLACE, output=bare)
        assert bare.getvalue() == b"public 0\n"


async def test_a_failed_statement_does_not_affect_the_next(pools: tuple[Pool, Pool]) -> None:
    pooled, _ = pools
    for _ in range(2):
        with pytest.raises(asyncpg.UndefinedTableError):
            await pooled.fetch("SELECT * FROM nothing")
    assert await pooled.fetchval("SELECT 1") == 1


async def test_values_with_quotes_are_set_unchanged(database_url: str) -> None:
    options = "options=-c%20x.y%3Da'b%5C%5Cc"
    async with open_pool(f"{database_url}?pgbouncer=true&{options}", "public") as pool:
        assert await pool.fetchval("SELECT current_setting('x.y')") == "a'b\\c"


async def test_a_lock_belongs_to_its_transaction_only(database_url: str) -> None:
    async with open_pool(database_url, "public") as pool:
        async with (
            advisory_lock(pool, "x") as first,
            advisory_lock(pool, "x") as second,
            advisory_lock(pool, "y") as other,
        ):
            assert (first, second, other) == (True, False, True)
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            assert await pool.fetchval(held) == 2
            # It holds no relation either: whoever wants pg_authid for itself would hold up every login meanwhile.
            relations = """
                SELECT count(*) FROM pg_locks WHERE locktype = 'relation'
                AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')
            """
            assert await pool.fetchval(relations) == 0
            # It holds no snapshot, so it does not delay VACUUM.
            kept = "SELECT count(backend_xmin) FROM pg_stat_activity WHERE state LIKE 'idle in%'"
            assert await pool.fetchval(kept) == 0
        async with advisory_lock(pool, "x") as again:
            assert again


@needs_pgbouncer
async def test_services_migrate_and_work_through_pgbouncer_in_transaction_mode(through: str) -> None:
    await asyncio.gather(*(migrate(through, name, package) for name, package in SCHEMAS.items() for _ in range(2)))
    async with AsyncExitStack() as stack:
        pools = {name: await stack.enter_async_context(open_pool(through, name)) for name in SCHEMAS}

        async def use(pool: Pool, name: str) -> None:
            for n in range(20):
                assert await pool.fetchval("SELECT current_schema() || $1::int", n) == f"{name}{n}"
                async with pool.acquire() as connection, connection.transaction():
                    assert await connection.fetchval(PLACE) == f"{name} 25s"

        await asyncio.gather(*(use(pool, name) for name, pool in pools.items() for _ in range(4)))
        async with advisory_lock(pools["gateway"], "x") as one, advisory_lock(pools["log_sink"], "x") as two:
            assert (one, two) == (True, False)
        assert await pools["gateway"].fetchval(PREPARED) == 0


@needs_pgbouncer
async def test_an_error_of_pgbouncer_is_reported_at_once(through: str) -> None:
    for url, told in (
        (f"{through.rpartition('/')[0]}/nowhere", 'database "nowhere" does not exist'),
        (f"{through}?options=--x", "unsupported startup parameter: options"),
        (f"{through}?pgbouncer=false", "unsupported startup parameter: "),
    ):
        async with asyncio.timeout(patient(10)):
            with pytest.raises(CannotStart, match=f"DATABASE_URL: the connection pooler reports: {told}"):
                async with open_pool(url, "shop"):
                    pytest.fail(f"{database_name(url)} is not to be used")
