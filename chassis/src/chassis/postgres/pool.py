"""A service's connection pool, its schema and its migrations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg

from chassis.errors import CannotStart, CannotStartYet
from chassis.observability.log_events import PostgresEvent
from chassis.observability.logs import get_logger
from chassis.postgres.connect import connect, error_text, refusal, usable_url
from chassis.postgres.migrations import apply_missing
from chassis.postgres.observed_pool import ObservedPool
from chassis.postgres.pooler import pooled_connection
from chassis.postgres.rights import missing_rights
from chassis.runtime.retry import retry
from chassis.settings.database.url import DatabaseUrl

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from chassis.runtime.runtime import Runtime

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

T = TypeVar("T")
START_LIMIT_S: Final = 30.0
CLOSE_LIMIT_S: Final = 2.0
POOL_SIZE: Final = 10
"""The most connections that a process of most services opens; docs/operations/sizing.md counts with it."""
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
"""Temporary errors of the database: the same work succeeds later, unchanged."""

AT_START: Final[tuple[type[Exception], ...]] = (*TRANSIENT, asyncpg.PostgresError, ValueError, KeyError)
"""The errors that connecting raises."""
_OWNER: Final = "SELECT quote_ident(pg_get_userbyid(nspowner)) FROM pg_namespace WHERE nspname = $1"
SESSION: Final = {
    "timezone": "UTC",
    "statement_timeout": "25s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
}
"""The settings of every connection; they take precedence over those in the URL's options."""
PLANNER: Final = {"random_page_cost": "1.1"}
"""The same, unless the URL's options have others: what Segue looks up has been written just before, and is in memory.

With PostgreSQL's own 4, a table without statistics is read as a whole for some dozen of its keys, and a prepared
statement goes on with that plan while the table grows. One that was analyzed while it was empty is read as a whole in
any case, until it is analyzed again, which autovacuum does within about a minute.
"""
ONE_PLAN: Final = {**PLANNER, "plan_cache_mode": "force_generic_plan"}
"""The same, for a service that finds all rows by their keys: no statement is planned anew for its arguments.

A limit has to be a part of such a statement's text, if the plan depends on it.
"""


@asynccontextmanager
async def open_pool(
    url: str,
    schema: str,
    *,
    max_size: int = POOL_SIZE,
    runtime: Runtime | None = None,
    planner: Mapping[str, str] = PLANNER,
) -> AsyncIterator[Pool]:
    """A pool whose connections work in `schema`. Raises CannotStartYet if the database does not within 30 s.

    `runtime` is told that the process depends on the database. `planner` are settings of its connections, before which
    those in the URL's options take precedence.

    Through a connection pooler such as PgBouncer, which may run each transaction in another session, every statement
    runs in a transaction that starts with the settings, and no statement is prepared. A pooler is detected by the
    process id that it reports, which is not the server's; `pgbouncer=true` or `false` in the URL takes precedence.
    """
    database = usable_url(url)
    settings = {**planner, **database.parameters.settings, **SESSION, "search_path": schema}
    name = {"application_name": f"segue-{schema}"}

    async def connect_as(_dsn: str | None = None, **more: Any) -> asyncpg.Connection[asyncpg.Record]:
        return await connect(database, command_timeout=30, **more)

    async def open_() -> ObservedPool:
        how: dict[str, Any] = {"connect": connect_as, "server_settings": {**settings, **name}}
        if await is_pooled(database):
            how |= {"connection_class": pooled_connection(settings), "server_settings": name}
            how |= {"statement_cache_size": 0}
            get_logger("chassis.postgres.pool").info(PostgresEvent.POOLER_DETECTED, schema=schema)
        # asyncpg restores a minimum size in the background and logs a traceback for each failure.
        return await ObservedPool(init_size=1, min_size=0, max_size=max_size, init=_prepare, reset=_keep_session, **how)

    pool = await _connected(open_, database)
    pool.database.works()
    if runtime is not None:
        runtime.depends_on("database", pool.database)
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), CLOSE_LIMIT_S)
        except TimeoutError:
            pool.terminate()


async def migrate(url: str, schema: str, package: ModuleType) -> None:
    """Apply the package's `migrations/*.sql` that the schema does not have yet, each in its own transaction.

    An advisory lock serializes replicas that start together. A file that needs a table which another session holds is
    tried again for five minutes, and lets others use the table in between. A file must not change once it is applied.
    A schema may have migrations of a newer release, unless their name ends in `.breaking.sql`. Raises CannotStart if it
    has one of those, if a file has changed, or if the role lacks privileges, and CannotStartYet if the database does
    not respond or is read-only.
    """
    database = usable_url(url)

    async def open_() -> asyncpg.Connection[asyncpg.Record]:
        each = pooled_connection({**database.parameters.settings, "search_path": schema})
        return await _writable(await connect(database, connection_class=each, statement_cache_size=0))

    connection = await _connected(open_, database)
    try:
        if (missing := await missing_rights(connection, schema)) is not None:
            raise CannotStart(missing)
        await apply_missing(connection, schema, _migrations(package))
    except asyncpg.InsufficientPrivilegeError as error:
        owner, newest = await connection.fetchval(_OWNER, schema), latest_migration(package)
        raise CannotStart(
            f"DATABASE_URL: {error_text(error)}; schema {schema} has to be migrated to {newest} first: "
            f"run `segue migrate` as the role that owns it, {owner}"
        ) from error
    except TRANSIENT as error:
        raise CannotStartYet(
            f"DATABASE_URL: the connection was lost during the migration: {error_text(error)}"
        ) from error
    finally:
        await connection.close(timeout=5)


def database_name(url: str) -> str:
    """The database of a URL for logs: hosts, ports and name, without user and password."""
    return usable_url(url).name


def latest_migration(package: ModuleType) -> str:
    """The name of the package's newest migration."""
    return _migrations(package)[-1][0]


def _migrations(package: ModuleType) -> list[tuple[str, str]]:
    folder = files(package) / "migrations"
    found = [(f.name, f.read_text("utf-8")) for f in folder.iterdir() if f.name.endswith(".sql")]
    return sorted(found)


async def _writable(connection: asyncpg.Connection[asyncpg.Record]) -> asyncpg.Connection[asyncpg.Record]:
    """The connection. Raises ReadOnlySQLTransactionError, which is temporary: a standby may be promoted."""
    if await connection.fetchval("SELECT current_setting('transaction_read_only')") == "on":
        await connection.close(timeout=5)
        raise asyncpg.ReadOnlySQLTransactionError("it, or its role, is read-only, and Segue has to write")
    return connection


async def is_pooled(database: DatabaseUrl) -> bool:
    """Whether the connection goes through a connection pooler. Raises the errors in `AT_START`."""
    if (pooler := database.parameters.pooler) is not None:
        return pooler
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
    except TRANSIENT as error:
        raise CannotStartYet(f"DATABASE_URL: {_failure_text(database, error)}") from error
    except AT_START as error:
        raise CannotStart(f"DATABASE_URL: {_failure_text(database, error)}") from error


def _failure_text(database: DatabaseUrl, error: Exception) -> str:
    within = f"within {START_LIMIT_S:.0f} s ({error_text(error)})"
    if isinstance(error, asyncpg.PostgresError):
        return f"the database at {database.name} could not be used {within}"
    return f"no database answered at {database.name} {within}"


async def _prepare(connection: Connection) -> None:
    block = connection.transaction()
    try:
        await block.start()
        for kind in ("json", "jsonb"):
            await connection.set_type_codec(kind, schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        await block.commit()
    except BaseException:
        # asyncpg would roll back and close it; both wait for the server without a limit.
        connection.terminate()
        raise


async def _keep_session(_connection: Connection) -> None:
    """Instead of asyncpg's reset, which takes a round trip: no statement of Segue changes the state of its session.

    asyncpg has rolled back an open transaction, if there was one.
    """
