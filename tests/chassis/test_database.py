"""Migrations that replicas apply together, files that must not change, and databases that are not there."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import asyncpg
import pytest
from tests.patience import patient

from chassis import database
from chassis.database import TRANSIENT, Pool, database_name, latest_migration, migrate, open_pool
from chassis.runtime import CannotStart
from segue_cli.local.postgres import LocalPostgres

FIRST = "CREATE TABLE things (id int PRIMARY KEY); SELECT pg_sleep(0.2);"
SECOND = "INSERT INTO things VALUES (1);"

Package = Callable[..., ModuleType]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Makes packages that bring migrations."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, **files: str) -> ModuleType:
        folder = tmp_path / name / "migrations"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        for file, sql in files.items():
            (folder / f"{file}.sql").write_text(sql)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return make


async def applied(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [row["name"] for row in await connection.fetch("SELECT name FROM shop.migrations ORDER BY 1")]
    finally:
        await connection.close()


async def test_replicas_that_start_together_apply_each_file_once(database_url: str, package: Package) -> None:
    shop = package("shop_together", **{"001_things": FIRST, "002_thing": SECOND})
    await asyncio.gather(*(migrate(database_url, "shop", shop) for _ in range(3)))
    assert await applied(database_url) == ["001_things.sql", "002_thing.sql"]
    assert latest_migration(shop) == "002_thing.sql"


async def test_so_do_processes(database_url: str, package: Package, tmp_path: Path) -> None:
    package("shop_apart", **{"001_things": FIRST, "002_thing": SECOND})
    code = (
        "import asyncio, sys; from chassis.database import migrate; import shop_apart;"
        " asyncio.run(migrate(sys.argv[1], 'shop', shop_apart))"
    )
    starts = [asyncio.create_subprocess_exec(sys.executable, "-c", code, database_url, cwd=tmp_path) for _ in range(3)]
    processes = await asyncio.gather(*starts)
    assert [await process.wait() for process in processes] == [0, 0, 0]
    assert await applied(database_url) == ["001_things.sql", "002_thing.sql"]


async def test_a_file_that_changed_after_it_was_applied_is_refused(database_url: str, package: Package) -> None:
    await migrate(database_url, "shop", package("shop_before", **{"001_things": FIRST}))
    changed = package("shop_after", **{"001_things": FIRST + " ", "002_thing": SECOND})
    with pytest.raises(CannotStart) as refused:
        await migrate(database_url, "shop", changed)
    assert str(refused.value) == (
        "migration shop/001_things.sql was changed after it was applied; add a new one instead"
    )
    assert await applied(database_url) == ["001_things.sql"]


async def test_a_file_that_fails_leaves_nothing_behind_and_can_be_mended(database_url: str, package: Package) -> None:
    broken = package("shop_broken", **{"001_things": FIRST, "002_thing": SECOND + "SELECT 1/0;"})
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database_url, "shop", broken)
    assert await applied(database_url) == ["001_things.sql"]
    await migrate(database_url, "shop", package("shop_mended", **{"001_things": FIRST, "002_thing": SECOND}))
    assert await applied(database_url) == ["001_things.sql", "002_thing.sql"]


@asynccontextmanager
async def as_stranger(url: str) -> AsyncIterator[str]:
    """The same database for a role that may do nothing in it."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE ROLE stranger LOGIN PASSWORD 'hunter2'")
        yield url.replace("segue@", "stranger:hunter2@")
    finally:
        await connection.execute("DROP ROLE stranger")
        await connection.close()


async def test_a_role_that_may_not_is_told(database_url: str, package: Package) -> None:
    shop = package("shop_forbidden", **{"001_things": FIRST})
    async with as_stranger(database_url) as url:
        with pytest.raises(CannotStart, match=r"^DATABASE_URL: permission denied for database test_\d+$"):
            await migrate(url, "shop", shop)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("postgresql://segue:hunter2@{place}/nowhere", r'^DATABASE_URL: database "nowhere" does not exist$'),
        ("postgresql://nobody:hunter2@{place}/postgres", r'^DATABASE_URL: role "nobody" does not exist$'),
        ("postgresql://segue:hunter2@{place}x/postgres", r"^DATABASE_URL is malformed: ValueError$"),
        (
            "postgresql://segue:hunter2@127.0.0.1:1/postgres",
            r"no database answered within 0 s \(Connect",
        ),
        ("postgresql://segue:hunter2@no-such-host.invalid/postgres", r"^DATABASE_URL: no database answered"),
    ],
)
async def test_a_wrong_url_is_one_line_without_its_password(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, wrong: str, told: str
) -> None:
    monkeypatch.setattr(database, "START_LIMIT_S", 0.3)
    url = wrong.format(place=postgres_url.partition("@")[2].partition("/")[0])
    with pytest.raises(CannotStart, match=told) as refused:
        async with open_pool(url, "shop"):
            pytest.fail("there is no such database")
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_it_waits_for_a_database_that_is_starting() -> None:
    from segue_cli.local.postgres import postgres

    async with postgres() as server:
        await server.stop()
        waiting = asyncio.create_task(_first_answer(server))
        await asyncio.sleep(0)
        await server.start()
        assert await asyncio.wait_for(waiting, patient(60)) == 1


async def _first_answer(server: LocalPostgres) -> int:
    async with open_pool(server.url, "shop") as pool:
        answer: int = await pool.fetchval("SELECT 1")
        return answer


async def test_a_pool_works_in_its_schema_with_limits_and_survives_the_end_of_its_connections(
    database_url: str,
) -> None:
    async with open_pool(database_url, "shop") as pool:
        rows = await pool.fetch("SELECT name, setting FROM pg_settings WHERE name = ANY($1)", list(LIMITS))
        assert {row["name"]: row["setting"] for row in rows} == LIMITS
        assert await pool.fetchval("""SELECT '{"a": [1]}'::jsonb""") == {"a": [1]}
        with pytest.raises(TRANSIENT):
            await pool.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert await answers(pool)


LIMITS = {
    "search_path": "shop",
    "application_name": "segue-shop",
    "TimeZone": "UTC",
    "statement_timeout": "25000",
    "lock_timeout": "10000",
    "idle_in_transaction_session_timeout": "60000",
}


async def answers(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT 1"))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://me:hunter2@db.example/segue", "db.example:5432/segue"),
        ("postgresql://db:6000/segue?password=hunter2", "db:6000/segue"),
        ("postgresql:///segue", "socket:5432/segue"),
    ],
)
def test_a_database_is_named_without_its_secrets(url: str, name: str) -> None:
    assert database_name(url) == name
