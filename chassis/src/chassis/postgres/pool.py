"""Postgres: a service's own schema, its pool, and its migrations."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg

from chassis.errors import CannotStart
from chassis.observability.log_events import PostgresEvent
from chassis.observability.logs import get_logger
from chassis.postgres.connect import connect, refusal, said, usable_url
from chassis.postgres.pooler import pooled_connection
from chassis.runtime.retry import retry
from chassis.settings.database_url import DatabaseUrl

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

T = TypeVar("T")
START_LIMIT_S: Final = 30.0
CLOSE_LIMIT_S: Final = 2.0

TRANSIENT: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""Errors of the database being away or busy: the same work succeeds later, unchanged."""

AT_START: Final[tuple[type[Exception], ...]] = (*TRANSIENT, asyncpg.PostgresError, ValueError, KeyError)
"""What connecting can raise."""
_MIGRATIONS: Final = """
CREATE TABLE migrations (
    name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)
"""
SESSION: Final = {
    "timezone": "UTC",
    "statement_timeout": "25s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
}
"""The settings of every connection; those in the URL's options give way to them."""

# A function such as to_regnamespace may answer from before the lock was waited for; a query of the catalogue does not.
_THERE: Final = """
SELECT c.relname FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'migrations'
WHERE n.nspname = $1
"""
_RIGHTS: Final = """
SELECT current_user AS role, current_database() AS database, n.oid IS NOT NULL AS there,
    has_database_privilege(current_database(), 'CREATE') AS may_make,
    has_schema_privilege(n.oid, 'USAGE') AS may_use, pg_get_userbyid(n.nspowner) AS owner,
    array(SELECT relname::text FROM pg_class WHERE relnamespace = n.oid AND relkind IN ('r', 'p') AND NOT (
        has_table_privilege(oid, 'SELECT') AND (relname = 'migrations' OR has_table_privilege(oid, 'INSERT')
        AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))) ORDER BY 1) AS closed
FROM (SELECT 1) AS one LEFT JOIN pg_namespace n ON n.nspname = $1
"""


@asynccontextmanager
async def open_pool(url: str, schema: str, *, max_size: int = 10) -> AsyncIterator[Pool]:
    """A pool whose connections work in `schema`. Raises CannotStart if the database does not answer in 30 s.

    Through a connection pooler such as PgBouncer, which gives each transaction another session, every statement runs in
    a transaction of its own that begins with the settings, and none is prepared. A pooler is told by the process id:
    the one that it gives out is not the server's. `pgbouncer=true` or `false` in the URL says it instead.
    """
    database = usable_url(url)
    settings = {**database.parameters.settings, **SESSION, "search_path": schema}
    name = {"application_name": f"segue-{schema}"}

    async def connect_as(_dsn: str | None = None, **more: Any) -> asyncpg.Connection[asyncpg.Record]:
        return await connect(database, command_timeout=30, **more)

    async def open_() -> Pool:
        how: dict[str, Any] = {"connect": connect_as, "server_settings": {**settings, **name}}
        if await is_pooled(database):
            how |= {"connection_class": pooled_connection(settings), "server_settings": name}
            how |= {"statement_cache_size": 0, "reset": _leave_be}
            get_logger("chassis.postgres.pool").info(PostgresEvent.POOLER_DETECTED, schema=schema)
        # A floor would be restored in the background, with a traceback for each try that fails.
        pool: Pool = await asyncpg.create_pool(init_size=1, min_size=0, max_size=max_size, init=_prepare, **how)
        return pool

    pool = await _connected(open_, database)
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), CLOSE_LIMIT_S)
        except TimeoutError:
            pool.terminate()


async def migrate(url: str, schema: str, package: ModuleType) -> None:
    """Apply the package's `migrations/*.sql` that this schema does not have yet, each in its own transaction.

    Replicas that start together take turns under an advisory lock. A file that was applied must not change.
    Raises CannotStart if one did, if the database does not answer or is read-only, or if the role may not do it.
    """
    database = usable_url(url)

    async def open_() -> asyncpg.Connection[asyncpg.Record]:
        each = pooled_connection({**database.parameters.settings, "search_path": schema})
        return await _writable(await connect(database, connection_class=each, statement_cache_size=0))

    connection = await _connected(open_, database)
    try:
        if (lacking := await missing_rights(connection, schema)) is not None:
            raise CannotStart(lacking)
        await _migrate(connection, schema, package)
    except asyncpg.InsufficientPrivilegeError as error:
        raise CannotStart(
            f"DATABASE_URL: {said(error)}; schema {schema} has to be migrated by the role that owns what is in it"
        ) from error
    except TRANSIENT as error:
        raise CannotStart(f"DATABASE_URL: the database went away while it was migrated: {said(error)}") from error
    finally:
        await connection.close(timeout=5)


async def missing_rights(connection: asyncpg.Connection[asyncpg.Record], schema: str) -> str | None:
    """What the role lacks to work in a service's schema, in one line that says how to grant it; None: nothing."""
    row = await connection.fetchrow(_RIGHTS, schema)
    if row is None:
        return None
    role, database, owner = (f'"{row[name]}"' for name in ("role", "database", "owner"))
    if not row["there"]:
        may = f"GRANT CREATE ON DATABASE {database} TO {role}, or CREATE SCHEMA {schema} AUTHORIZATION {role}"
        what = f"may not create schema {schema} in database {database}; as its owner: {may}"
        return None if row["may_make"] else f"DATABASE_URL: the role {role} {what}"
    if not row["may_use"]:
        what = f"may not use schema {schema}, which is of {owner}; connect as that, or give it the schema"
        return f"DATABASE_URL: the role {role} {what}"
    if closed := row["closed"]:
        what = f"may not read and write all tables of schema {schema} ({', '.join(closed[:3])})"
        grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
        return f"DATABASE_URL: the role {role} {what}; as {owner}: {grant}, or connect as that"
    return None


def database_name(url: str) -> str:
    """Which database a URL names, for logs: host, port and name, never who asks or how it proves it."""
    return usable_url(url).name


def latest_migration(package: ModuleType) -> str:
    """The name of the newest migration a package brings."""
    return _migrations(package)[-1][0]


def _migrations(package: ModuleType) -> list[tuple[str, str]]:
    folder = files(package) / "migrations"
    found = [(f.name, f.read_text("utf-8")) for f in folder.iterdir() if f.name.endswith(".sql")]
    return sorted(found)


async def _migrate(connection: asyncpg.Connection[asyncpg.Record], schema: str, package: ModuleType) -> None:
    async with _turn(connection, schema):
        # Asked first, as CREATE … IF NOT EXISTS wants the right to create even where it is there.
        there = {row["relname"] for row in await connection.fetch(_THERE, schema)}
        if not there:
            await connection.execute(f"CREATE SCHEMA {schema}")
        if "migrations" not in there:
            await connection.execute(_MIGRATIONS)
        applied = await _applied(connection)
    for name, sql in _migrations(package):
        digest = hashlib.sha256(sql.encode()).hexdigest()
        if applied.get(name) == digest:
            continue
        async with _turn(connection, schema):
            # Another replica may have had its turn before.
            applied = await _applied(connection)
            if name not in applied:
                await connection.execute(sql)
                await connection.execute("INSERT INTO migrations (name, sha256) VALUES ($1, $2)", name, digest)
                get_logger("chassis.postgres.pool").info(PostgresEvent.MIGRATION_APPLIED, schema=schema, migration=name)
            elif applied[name] != digest:
                raise CannotStart(f"migration {schema}/{name} was changed after it was applied; add a new one instead")


@asynccontextmanager
async def _turn(connection: asyncpg.Connection[asyncpg.Record], schema: str) -> AsyncIterator[None]:
    """A transaction that no other replica has at the same time."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"segue.migrate.{schema}")
        yield


async def _applied(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, str]:
    return {row["name"]: row["sha256"] for row in await connection.fetch("SELECT name, sha256 FROM migrations")}


async def _writable(connection: asyncpg.Connection[asyncpg.Record]) -> asyncpg.Connection[asyncpg.Record]:
    """The connection, or ReadOnlySQLTransactionError, which may pass: a standby may be made the primary."""
    if await connection.fetchval("SELECT current_setting('transaction_read_only')") == "on":
        await connection.close(timeout=5)
        raise asyncpg.ReadOnlySQLTransactionError("it, or its role, takes no writes, and Segue has to write")
    return connection


async def is_pooled(database: DatabaseUrl) -> bool:
    """Whether a connection pooler is in between. Raises what connecting raises."""
    if (told := database.parameters.pooler) is not None:
        return told
    connection = await connect(database, statement_cache_size=0)
    try:
        return bool(await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid())
    finally:
        await connection.close(timeout=5)


async def _connected(open_: Callable[[], Awaitable[T]], database: DatabaseUrl) -> T:
    async def opened() -> T:
        try:
            return await open_()
        except AT_START as error:
            if (why := refusal(error)) is not None:
                raise why from error
            raise

    try:
        return await retry(opened, TRANSIENT, pause_s=0.2, within_s=START_LIMIT_S)
    except AT_START as error:
        raise CannotStart(f"DATABASE_URL: {_in_vain(database, error)}") from error


def _in_vain(database: DatabaseUrl, error: Exception) -> str:
    within = f"within {START_LIMIT_S:.0f} s ({said(error)})"
    if isinstance(error, asyncpg.PostgresError):
        return f"the database at {database.name} was not to be used {within}"
    return f"no database answered at {database.name} {within}"


async def _prepare(connection: Connection) -> None:
    begun = connection.transaction()
    try:
        await begun.start()
        for kind in ("json", "jsonb"):
            await connection.set_type_codec(kind, schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        await begun.commit()
    except BaseException:
        # asyncpg would roll back and close it, and both wait for the server, which may be silent, without our limit.
        connection.terminate()
        raise


async def _leave_be(_connection: Connection) -> None:
    """A session that is not ours has nothing of ours to be reset."""
