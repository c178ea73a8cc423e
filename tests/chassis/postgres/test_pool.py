"""Migrations that replicas apply together, migration files that changed, and unavailable or refusing databases."""

from __future__ import annotations

import asyncio
import importlib
import re
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import asyncpg
import pytest
import structlog
from tests.chassis.toy import until
from tests.patience import patient
from tests.users import let_others_enter

from chassis.errors import CannotStart
from chassis.postgres.connect import refusal
from chassis.postgres.pool import ONE_PLAN, TRANSIENT, Pool, database_name, latest_migration, migrate, open_pool
from segue_cli.local.postgres import LocalPostgres, postgres

FIRST = "CREATE TABLE things (id int PRIMARY KEY); SELECT pg_sleep(0.2);"
SECOND = "INSERT INTO things VALUES (1);"

Package = Callable[..., ModuleType]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Creates packages with migrations."""
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


async def test_processes_that_start_together_apply_each_file_once(
    database_url: str, package: Package, tmp_path: Path
) -> None:
    package("shop_apart", **{"001_things": FIRST, "002_thing": SECOND})
    code = (
        "import asyncio, sys; from chassis.postgres.pool import migrate; import shop_apart;"
        " asyncio.run(migrate(sys.argv[1], 'shop', shop_apart))"
    )
    starts = [asyncio.create_subprocess_exec(sys.executable, "-c", code, database_url, cwd=tmp_path) for _ in range(3)]
    processes = await asyncio.gather(*starts)
    assert [await process.wait() for process in processes] == [0, 0, 0]
    assert await applied(database_url) == ["001_things.sql", "002_thing.sql"]


NEWER = {"001_things": FIRST, "002_thing": SECOND, "003_more": "ALTER TABLE things ADD COLUMN more int"}


async def test_an_older_release_goes_on_with_a_schema_that_a_newer_one_added_to(
    database_url: str, package: Package
) -> None:
    """After a rollback, and while replicas of both releases run."""
    newer, older = package("shop_newer", **NEWER), package("shop_older", **{"001_things": FIRST, "002_thing": SECOND})
    await migrate(database_url, "shop", newer)
    with structlog.testing.capture_logs() as logged:
        await migrate(database_url, "shop", older)
    [warning] = [line for line in logged if line["log_level"] == "warning"]
    assert (warning["schema"], warning["migrations"]) == ("shop", ["003_more.sql"])
    assert await applied(database_url) == ["001_things.sql", "002_thing.sql", "003_more.sql"]


async def test_an_older_release_refuses_a_schema_that_it_cannot_work_with(database_url: str, package: Package) -> None:
    breaking = package("shop_breaking", **NEWER, **{"004_gone.breaking": "ALTER TABLE things DROP COLUMN id"})
    await migrate(database_url, "shop", breaking)
    await migrate(database_url, "shop", breaking)
    with pytest.raises(CannotStart, match=r"shop has 004_gone\.breaking\.sql, .* start the release that brought"):
        await migrate(database_url, "shop", package("shop_before_it", **NEWER))


IN_A_PROCESS = (
    "import asyncio, sys; from chassis.postgres.pool import migrate; import shop_cut;"
    " asyncio.run(migrate(sys.argv[1], 'shop', shop_cut))"
)


async def test_a_replica_that_is_killed_while_it_migrates_leaves_the_rest_to_the_next(
    database_url: str, package: Package, tmp_path: Path
) -> None:
    """The server ends the dead one's transaction; the next one waits for that, and applies each file once."""
    slow = "INSERT INTO things VALUES (1); SELECT pg_sleep(3); INSERT INTO things VALUES (2);"
    shop = package("shop_cut", **{"001_things": FIRST, "002_slow": slow})
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", IN_A_PROCESS, database_url, cwd=tmp_path)
    async with connected(database_url) as watcher:

        async def under_way() -> bool:
            return bool(
                await watcher.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND "
                    "query LIKE 'INSERT INTO things%' AND datname = current_database()"
                )
            )

        await until(under_way)
        process.kill()
        await process.wait()
        assert await applied(database_url) == ["001_things.sql"]
        await migrate(database_url, "shop", shop)
        assert await applied(database_url) == ["001_things.sql", "002_slow.sql"]
        assert await watcher.fetchval("SELECT count(*) FROM shop.things") == 2


async def test_a_migration_that_does_not_end_is_reported_to_those_that_wait(
    database_url: str, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.postgres.migrations.MIGRATION_WAIT_S", 1)
    shop = package("shop_held", **{"001_things": FIRST})
    async with connected(database_url) as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtext('segue.migrate.shop'))")
        with pytest.raises(CannotStart, match="another process has been migrating schema shop for 1 s: wait until"):
            await migrate(database_url, "shop", shop)
    await migrate(database_url, "shop", shop)


async def test_a_file_that_changed_after_it_was_applied_is_refused(database_url: str, package: Package) -> None:
    await migrate(database_url, "shop", package("shop_before", **{"001_things": FIRST}))
    changed = package("shop_after", **{"001_things": FIRST + " ", "002_thing": SECOND})
    with pytest.raises(CannotStart) as refused:
        await migrate(database_url, "shop", changed)
    assert str(refused.value) == (
        "migration shop/001_things.sql was changed after it was applied; add a new one instead"
    )
    assert await applied(database_url) == ["001_things.sql"]


async def test_a_file_that_fails_is_rolled_back_and_can_be_corrected(database_url: str, package: Package) -> None:
    broken = package("shop_broken", **{"001_things": FIRST, "002_thing": SECOND + "SELECT 1/0;"})
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database_url, "shop", broken)
    assert await applied(database_url) == ["001_things.sql"]
    await migrate(database_url, "shop", package("shop_mended", **{"001_things": FIRST, "002_thing": SECOND}))
    assert await applied(database_url) == ["001_things.sql", "002_thing.sql"]


@asynccontextmanager
async def as_stranger(url: str) -> AsyncIterator[str]:
    """The URL of the database for a role without any privilege in it."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE ROLE stranger LOGIN PASSWORD 'hunter2'")
        yield url.replace("segue@", "stranger:hunter2@")
    finally:
        await connection.execute("DROP ROLE stranger")
        await connection.close()


async def test_a_role_without_privileges_gets_an_error_with_the_grant(database_url: str, package: Package) -> None:
    shop = package("shop_forbidden", **{"001_things": FIRST})
    async with as_stranger(database_url) as url:
        may_not = r'may not create schema shop in database "test_\d+"; run `segue migrate` as'
        told = rf'^DATABASE_URL: the role "stranger" {may_not}'
        with pytest.raises(CannotStart, match=told):
            await migrate(url, "shop", shop)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            "postgresql://segue:hunter2@{place}/nowhere",
            r'^DATABASE_URL: database "nowhere" does not exist; create the database',
        ),
        (
            "postgresql://nobody:hunter2@{place}/postgres",
            r'^DATABASE_URL: role "nobody" does not exist; create the role',
        ),
        ("postgresql://segue:hunter2@{place}x/postgres", r"^DATABASE_URL: has a port that is no number"),
        (
            "postgresql://segue:hunter2@127.0.0.1:1/postgres",
            r"no database answered at 127.0.0.1:1/postgres within 0 s \(Connect",
        ),
        ("postgresql://segue:hunter2@no-such-host.invalid/postgres", r"^DATABASE_URL: no database answered"),
        (
            "postgresql://segue@{place}/postgres?sslmode=require",
            "the server does not support TLS, which sslmode requires$",
        ),
        ("postgresql://segue@{place}/postgres?sslmode=verify-ca", 'root certificate file ".*" does not exist'),
        (
            "postgresql://segue@{place}/postgres?options=-cwork_mem%3Dmuch",
            'invalid value for .*"work_mem".*; correct its o',
        ),
        ("postgresql://segue@{place}/postgres?options=-cno_such%3D1", '"no_such"; correct its options$'),
        (
            "postgresql://segue:hunter2@127.0.0.1:1,127.0.0.1:2/postgres",
            r"no database answered at 127.0.0.1:1,127.0.0.1:2/postgres within 0 s \(127.0.0.1:1: Con.*; 127.0.0.1:2: ",
        ),
    ],
)
async def test_a_wrong_url_is_one_line_without_its_password(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, wrong: str, told: str
) -> None:
    monkeypatch.setattr("chassis.postgres.pool.START_LIMIT_S", 0.3)
    url = wrong.format(place=postgres_url.partition("@")[2].partition("/")[0])
    with pytest.raises(CannotStart, match=told) as refused:
        async with open_pool(url, "shop"):
            pytest.fail("there is no such database")
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_it_waits_for_a_database_that_is_starting() -> None:
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


async def test_a_pool_uses_its_schema_and_limits_and_survives_the_end_of_its_connections(
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


async def test_the_urls_options_take_precedence_over_how_statements_are_planned(database_url: str) -> None:
    async with open_pool(database_url, "shop") as pool:
        assert await pool.fetchval("SHOW random_page_cost") == "1.1"
        assert await pool.fetchval("SHOW plan_cache_mode") == "auto"
    separator = "&" if "?" in database_url else "?"
    url = f"{database_url}{separator}options=-crandom_page_cost%3D2"
    async with open_pool(url, "shop", planner=ONE_PLAN) as pool:
        assert await pool.fetchval("SHOW random_page_cost") == "2"
        assert await pool.fetchval("SHOW plan_cache_mode") == "force_generic_plan"


async def test_a_table_that_grows_is_looked_up_by_its_index_from_the_first_plan_on(database_url: str) -> None:
    async with open_pool(database_url, "public", max_size=1, planner=ONE_PLAN) as pool, pool.acquire() as connection:
        await connection.execute("CREATE TABLE grown (id text PRIMARY KEY) WITH (autovacuum_enabled = false)")
        for size in (100, 20_000):
            await connection.execute("INSERT INTO grown SELECT n::text FROM generate_series($1 / 100, $1) AS n", size)
            for _ in range(10):
                await connection.fetch("SELECT id FROM grown WHERE id = ANY($1)", [str(n) for n in range(50)])
        statement = "SELECT custom_plans FROM pg_prepared_statements WHERE statement LIKE '%FROM grown WHERE%'"
        assert await connection.fetchval(statement) == 0
    async with connected(database_url) as owner:
        scans = "SELECT seq_scan, idx_scan > 0 FROM pg_stat_user_tables WHERE relname = 'grown'"
        assert [tuple(row) for row in await owner.fetch(scans)] == [(1, True)], "read as a whole only to make the index"


async def answers(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT 1"))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://me:hunter2@db.example/segue", "db.example:5432/segue"),
        ("postgresql://db:6000/segue?password=hunter2", "db:6000/segue"),
        ("postgresql:///segue", "socket:5432/segue"),
        ("postgresql+asyncpg://me:hunter2@h1:1,[::1]:2/segue?sslmode=disable", "h1:1,[::1]:2/segue"),
    ],
)
def test_the_name_of_a_database_contains_no_secrets(url: str, name: str) -> None:
    assert database_name(url) == name


async def test_a_schema_created_by_another_owner_is_enough(database_url: str, package: Package) -> None:
    shop = package("shop_given", **{"001_things": FIRST})
    async with as_stranger(database_url) as url, connected(database_url) as owner:
        await owner.execute("CREATE SCHEMA shop AUTHORIZATION stranger")
        await migrate(url, "shop", shop)
        assert await applied(database_url) == ["001_things.sql"]
        await owner.execute("DROP SCHEMA shop CASCADE")


async def test_missing_privileges_in_anothers_schema_are_reported_with_the_grant(
    database_url: str, package: Package
) -> None:
    shop = package("shop_of_another", **{"001_things": FIRST})
    await migrate(database_url, "shop", shop)
    async with as_stranger(database_url) as url, connected(database_url) as owner:
        for grant, told in (
            ("SELECT 1", 'the role "stranger" may not use schema shop, which belongs to "segue"'),
            (
                "GRANT USAGE ON SCHEMA shop TO stranger",
                r"may not read and write all tables of schema shop \(migrations, t",
            ),
            (
                "GRANT SELECT ON ALL TABLES IN SCHEMA shop TO stranger",
                r"schema shop \(things\); as \"segue\": GRANT SELECT, INSERT",
            ),
        ):
            await owner.execute(grant)
            with pytest.raises(CannotStart, match=f"^DATABASE_URL: .*{told}"):
                await migrate(url, "shop", shop)
        await owner.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO stranger")
        await migrate(url, "shop", shop)
        more = package(
            "shop_of_another_later", **{"001_things": FIRST, "002_more": "ALTER TABLE things ADD COLUMN b int"}
        )
        with pytest.raises(
            CannotStart,
            match=r"^DATABASE_URL: must be owner of .* to 002_more\.sql first: run `segue migrate` as .*, segue$",
        ):
            await migrate(url, "shop", more)
        await owner.execute("DROP OWNED BY stranger")


async def test_a_read_only_role_is_reported(
    database_url: str, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.postgres.pool.START_LIMIT_S", 0.3)
    async with as_stranger(database_url) as url, connected(database_url) as owner:
        await owner.execute("ALTER ROLE stranger SET default_transaction_read_only = on")
        with pytest.raises(
            CannotStart, match=r"^DATABASE_URL: the database at .* is read-only, and Segue has to write"
        ):
            await migrate(url, "shop", package("shop_read_only", **{"001_things": FIRST}))


async def test_a_server_without_free_connections_is_reported(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.postgres.pool.START_LIMIT_S", 0.3)
    async with as_stranger(database_url) as url, connected(database_url) as owner:
        await owner.execute("ALTER ROLE stranger CONNECTION LIMIT 0")
        with pytest.raises(CannotStart, match=r"^DATABASE_URL: .* within 0 s \(too many connections for role"):
            async with open_pool(url, "shop"):
                pytest.fail("it is full")
        await owner.execute("ALTER ROLE stranger CONNECTION LIMIT 5")
        async with open_pool(url, "shop") as pool:
            assert await answers(pool)


@pytest.fixture
async def kept_server(tmp_path: Path) -> AsyncIterator[tuple[LocalPostgres, Path]]:
    """A server for this test only, whose files it may change."""
    let_others_enter(tmp_path)
    async with postgres(tmp_path / "kept") as server:
        yield server, tmp_path / "kept" / "data"


async def test_a_wrong_password_and_a_refusal_of_pg_hba_are_reported(kept_server: tuple[LocalPostgres, Path]) -> None:
    server, data = kept_server
    wrong = re.sub(":[^:]*@", ":hunter2@", server.url)
    for url, told in (
        (wrong, r'^DATABASE_URL: password authentication failed for user "segue"; correct the password$'),
        (re.sub(":[^:]*@", "@", server.url), "^DATABASE_URL.*password"),
    ):
        with pytest.raises(CannotStart, match=told) as refused:
            async with open_pool(url, "shop"):
                pytest.fail("it has another password")
        assert "hunter2" not in str(refused.value)
    async with connected(server.url) as owner:
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        await owner.execute("SELECT pg_reload_conf()")
        told = "^DATABASE_URL: no pg_hba.conf entry for host .*, no encryption; .* allow it in pg_hba.conf"
        await _eventually_refused(server.url, told)


async def _eventually_refused(url: str, told: str) -> None:
    async def refused() -> bool:
        try:
            async with open_pool(url, "shop"):
                return False
        except CannotStart as error:
            return re.search(told, str(error)) is not None

    await until(refused)


async def test_of_several_hosts_the_first_that_accepts_writes_is_used(
    postgres_url: str, kept_server: tuple[LocalPostgres, Path]
) -> None:
    """As after a failover: one host is unavailable, one is read-only, one is the primary."""
    server, _ = kept_server
    async with connected(server.url) as owner:
        await owner.execute("CREATE ROLE anyone SUPERUSER LOGIN PASSWORD 'hunter2'")
        await owner.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await owner.execute("SELECT pg_reload_conf()")
    async with connected(postgres_url) as other:
        await other.execute("CREATE ROLE anyone SUPERUSER LOGIN PASSWORD 'hunter2'")
        try:
            mine, theirs = (urlsplit(url).port for url in (server.url, postgres_url))
            url = f"postgresql://anyone:hunter2@127.0.0.1:1,127.0.0.1:{mine},127.0.0.1:{theirs}/postgres"
            async with open_pool(url, "shop") as pool:
                assert await pool.fetchval("SHOW port") == str(theirs)
        finally:
            await other.execute("DROP ROLE anyone")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "said",
    [
        "unsupported startup parameter: options",
        'database "x" does not exist',
        "no such user",
        "SASL authentication failed",
    ],
)
def test_permanent_errors_of_a_pooler_are_not_retried(said: str) -> None:
    assert str(refusal(asyncpg.ProtocolViolationError(said))) == f"DATABASE_URL: the connection pooler reports: {said}"


@pytest.mark.parametrize(
    "passing",
    [
        asyncpg.ProtocolViolationError("pgbouncer cannot connect to server"),
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        ConnectionResetError("gone"),
        ssl.SSLEOFError("EOF occurred in violation of protocol"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_transient_errors_are_retried(passing: Exception) -> None:
    assert refusal(passing) is None


def test_an_untrusted_certificate_is_reported() -> None:
    untrusted = ssl.SSLCertVerificationError("certificate verify failed: self-signed certificate")
    assert str(refusal(untrusted)).startswith("DATABASE_URL: TLS with the server failed: ")
