"""Postgres: a service's own schema, its pool, and its migrations."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import asyncpg

from chassis.logs import get_logger
from chassis.runtime import CannotStart

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


@asynccontextmanager
async def open_pool(url: str, schema: str, *, max_size: int = 10) -> AsyncIterator[Pool]:
    """A pool whose connections work in `schema`. Raises CannotStart if the database does not answer in 30 s."""

    async def connect() -> Pool:
        pool: Pool = await asyncpg.create_pool(
            url,
            init_size=1,
            min_size=0,  # A floor would be restored in the background, with a traceback for each try that fails.
            max_size=max_size,
            init=_prepare,
            timeout=10,
            command_timeout=30,
            server_settings={
                "search_path": schema,
                "application_name": f"segue-{schema}",
                "timezone": "UTC",
                "statement_timeout": "25s",
                "lock_timeout": "10s",
                "idle_in_transaction_session_timeout": "60s",
            },
        )
        return pool

    pool = await _connected(connect)
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
    Raises CannotStart if one did, if the database does not answer, or if the URL's role may not do it.
    """
    connection = await _connected(lambda: asyncpg.connect(url, timeout=10))
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtext($1))", f"segue.migrate.{schema}")
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}; SET search_path TO {schema}")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, sha256 text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {row["name"]: row["sha256"] for row in await connection.fetch("SELECT name, sha256 FROM migrations")}
        for name, sql in _migrations(package):
            await _apply(connection, schema, name, sql, applied.get(name))
    except asyncpg.InsufficientPrivilegeError as error:
        raise CannotStart(f"DATABASE_URL: {error}") from error
    finally:
        await connection.close(timeout=5)


def database_name(url: str) -> str:
    """Which database a URL names, for logs: host, port and name, never who asks or how it proves it."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'socket'}:{parts.port or 5432}{parts.path}"


def latest_migration(package: ModuleType) -> str:
    """The name of the newest migration a package brings."""
    return _migrations(package)[-1][0]


def _migrations(package: ModuleType) -> list[tuple[str, str]]:
    folder = files(package) / "migrations"
    found = [(f.name, f.read_text("utf-8")) for f in folder.iterdir() if f.name.endswith(".sql")]
    return sorted(found)


async def _apply(
    connection: asyncpg.Connection[asyncpg.Record], schema: str, name: str, sql: str, applied: str | None
) -> None:
    digest = hashlib.sha256(sql.encode()).hexdigest()
    if applied == digest:
        return
    if applied is not None:
        raise CannotStart(f"migration {schema}/{name} was changed after it was applied; add a new one instead")
    async with connection.transaction():
        await connection.execute(sql)
        await connection.execute("INSERT INTO migrations (name, sha256) VALUES ($1, $2)", name, digest)
    get_logger("chassis.database").info("migration applied", schema=schema, migration=name)


async def _connected(connect: Callable[[], Awaitable[T]]) -> T:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            return await connect()
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise CannotStart(f"DATABASE_URL: {error}") from error
        except (ValueError, asyncpg.ClientConfigurationError) as error:
            raise CannotStart(f"DATABASE_URL is malformed: {type(error).__name__}") from error
        except TRANSIENT as error:
            if time.monotonic() > deadline:
                why = f"{type(error).__name__}: {error}"
                raise CannotStart(f"DATABASE_URL: no database answered within {START_LIMIT_S:.0f} s ({why})") from error
            await asyncio.sleep(0.2)  # Nothing is running yet that a stop would have to interrupt.


async def _prepare(connection: Connection) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
