"""A migration of a table that others use: it lets them go first, and says whom it waits for."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import ModuleType

import asyncpg
import pytest
import structlog
from tests.patience import eventually, patient

from chassis.errors import CannotStartYet
from chassis.postgres import migrations
from chassis.postgres.pool import latest_migration, migrate

FIRST = "CREATE TABLE things (id int PRIMARY KEY)"
ADDED = "ALTER TABLE things ADD COLUMN name text"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE things%'"


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package with a migration of a table; the files are given in the place of those of a folder."""
    module = ModuleType("shop")
    monkeypatch.setattr("chassis.postgres.pool._migrations", lambda _: [("001_a.sql", FIRST), ("002_b.sql", ADDED)])
    return module


async def held(url: str, stack: AsyncExitStack) -> asyncpg.Connection[asyncpg.Record]:
    """A session that reads the table in an open transaction, as a dump does."""
    holder = await asyncpg.connect(url, server_settings={"application_name": "pg_dump"})
    stack.push_async_callback(holder.close)
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE SCHEMA shop; SET search_path TO shop; {migrations._MIGRATIONS}; {FIRST}")
    digest = migrations._digest(FIRST)
    await connection.execute("INSERT INTO migrations (name, sha256) VALUES ('001_a.sql', $1)", digest)
    await connection.close()
    await holder.execute("BEGIN; LOCK TABLE shop.things IN ACCESS SHARE MODE")
    return holder


async def test_it_lets_those_who_use_the_table_go_first(
    database_url: str, shop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.postgres.migrations.TABLE_WAIT_S", 1)
    monkeypatch.setattr("chassis.postgres.migrations.TABLE_PAUSE_S", 0.5)
    async with AsyncExitStack() as stack:
        holder = await held(database_url, stack)
        other = await asyncpg.connect(database_url)
        stack.push_async_callback(other.close)
        migration = asyncio.create_task(migrate(database_url, "shop", shop))
        await eventually(lambda: other.fetchval(WAITING), what="the migration waits for the table")
        assert await asyncio.wait_for(other.fetchval("SELECT count(*) FROM shop.things"), patient(5)) == 0
        assert not migration.done()
        await holder.execute("COMMIT")
        await asyncio.wait_for(migration, patient(30))
        assert await other.fetchval("SELECT max(name) FROM shop.migrations") == latest_migration(shop)
        assert await other.fetch("SELECT name FROM shop.things") == []


async def test_it_names_the_session_that_it_waits_for(
    database_url: str, shop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("WAIT", "0.2"), ("PAUSE", 0.1), ("LIMIT", 1.0)):
        monkeypatch.setattr(f"chassis.postgres.migrations.TABLE_{name}_S", seconds)
    async with AsyncExitStack() as stack:
        holder = await held(database_url, stack)
        pid = holder.get_server_pid()
        told = (
            rf"migration shop/002_b.sql got no lock .*: the session with pid {pid} \(pg_dump\) uses shop.things; wait"
        )
        with structlog.testing.capture_logs() as logged, pytest.raises(CannotStartYet, match=told):
            await migrate(database_url, "shop", shop)
    waits = [each for each in logged if each.get("code") == "migration_waits" or "waits" in str(each.get("event"))]
    assert waits
    assert all(str(pid) in each["error"] for each in waits)
