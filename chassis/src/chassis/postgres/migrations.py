"""Migrations that a schema does not have yet: each applied once, and without holding up those who use its tables."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from chassis.errors import CannotStart, CannotStartYet
from chassis.observability.log_events import PostgresEvent
from chassis.observability.logs import get_logger
from chassis.runtime.retry import retry

MIGRATION_WAIT_S: Final = 120
"""Seconds for which a replica waits while another one migrates the same schema."""
TABLE_WAIT_S: Final = 3
"""Seconds for which a migration waits for a table. Every later statement on the table waits behind it."""
TABLE_PAUSE_S: Final = 5.0
"""Seconds after that in which others may use the table."""
TABLE_LIMIT_S: Final = 300.0
"""Seconds after which a migration whose table does not become free is given up."""
BREAKING: Final = ".breaking.sql"
"""Ends the name of a migration with which services of earlier releases cannot work."""

_MIGRATIONS: Final = """
CREATE TABLE migrations (
    name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)
"""
# A function such as to_regnamespace may use a catalogue from before the wait for the lock; a query does not.
_THERE: Final = """
SELECT c.relname FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'migrations'
WHERE n.nspname = $1
"""
# The oldest transaction is the likeliest: those of services end within milliseconds.
_HOLDER: Final = """
SELECT l.pid, c.relname, a.application_name FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND l.granted AND l.pid <> pg_backend_pid()
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY a.xact_start NULLS LAST, l.pid LIMIT 1
"""


class _TableHeld(Exception):
    """Another session holds a table that a migration needs; the message says which one, if it is known."""


async def apply_missing(
    connection: asyncpg.Connection[asyncpg.Record], schema: str, known: Sequence[tuple[str, str]]
) -> None:
    """Apply those of the files, given as names and SQL, that the schema does not have yet.

    Raises CannotStart if one has changed or a newer one is breaking, and CannotStartYet if another session is in the
    way.
    """
    async with _exclusive_transaction(connection, schema):
        # Checked first, because CREATE … IF NOT EXISTS requires the privilege to create even if the object exists.
        existing = {row["relname"] for row in await connection.fetch(_THERE, schema)}
        if not existing:
            await connection.execute(f"CREATE SCHEMA {schema}")
        if "migrations" not in existing:
            await connection.execute(_MIGRATIONS)
        applied = await _applied(connection)
    _check_newer(schema, sorted(applied.keys() - {name for name, _ in known}))
    for name, sql in known:
        if applied.get(name) != _digest(sql):
            await _apply(connection, schema, name, sql)


async def _apply(connection: asyncpg.Connection[asyncpg.Record], schema: str, name: str, sql: str) -> None:
    log = get_logger("chassis.postgres.migrations")

    async def once() -> None:
        try:
            async with _exclusive_transaction(connection, schema):
                await _apply_one(connection, schema, name, sql)
        except asyncpg.LockNotAvailableError as error:
            raise _TableHeld(await _holder(connection, schema)) from error

    def tell(error: BaseException) -> None:
        log.warning(PostgresEvent.MIGRATION_WAITS, schema=schema, migration=name, error=str(error))

    try:
        await retry(once, _TableHeld, pause_s=TABLE_PAUSE_S, within_s=TABLE_LIMIT_S, on_error=tell)
    except _TableHeld as error:
        raise CannotStartYet(
            f"DATABASE_URL: migration {schema}/{name} got no lock on a table within {TABLE_LIMIT_S:.0f} s: {error};"
            " wait until that session is done, or end it"
        ) from error


async def _apply_one(connection: asyncpg.Connection[asyncpg.Record], schema: str, name: str, sql: str) -> None:
    # Another replica may have applied it in the meantime.
    applied = await _applied(connection)
    if name not in applied:
        await connection.execute(sql)
        await connection.execute("INSERT INTO migrations (name, sha256) VALUES ($1, $2)", name, _digest(sql))
        log = get_logger("chassis.postgres.migrations")
        log.info(PostgresEvent.MIGRATION_APPLIED, schema=schema, migration=name)
    elif applied[name] != _digest(sql):
        raise CannotStart(f"migration {schema}/{name} was changed after it was applied; add a new one instead")


async def _holder(connection: asyncpg.Connection[asyncpg.Record], schema: str) -> str:
    row = await connection.fetchrow(_HOLDER, schema)
    if row is None:
        return f"another session used a table of schema {schema}"
    program = f" ({row['application_name']})" if row["application_name"] else ""
    return f"the session with pid {row['pid']}{program} uses {schema}.{row['relname']}"


@asynccontextmanager
async def _exclusive_transaction(connection: asyncpg.Connection[asyncpg.Record], schema: str) -> AsyncIterator[None]:
    """A transaction under an advisory lock. Raises CannotStartYet if another replica holds it too long."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{MIGRATION_WAIT_S}s'")
        try:
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"segue.migrate.{schema}")
        except asyncpg.LockNotAvailableError as error:
            raise CannotStartYet(
                f"DATABASE_URL: another process has been migrating schema {schema} for {MIGRATION_WAIT_S} s: wait until"
                " it is done, or end its session"
            ) from error
        await connection.execute(f"SET LOCAL lock_timeout = '{TABLE_WAIT_S}s'")
        yield


def _check_newer(schema: str, unknown: Sequence[str]) -> None:
    """Warn of migrations of a newer release. Raises CannotStart if this release cannot work with one of them."""
    if breaking := [name for name in unknown if name.endswith(BREAKING)]:
        what = f"schema {schema} has {breaking[0]}, with which this release cannot work"
        raise CannotStart(f"DATABASE_URL: {what}: start the release that brought it, or a later one")
    if unknown:
        log = get_logger("chassis.postgres.migrations")
        log.warning(PostgresEvent.SCHEMA_IS_NEWER, schema=schema, migrations=list(unknown))


async def _applied(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, str]:
    return {row["name"]: row["sha256"] for row in await connection.fetch("SELECT name, sha256 FROM migrations")}


def _digest(sql: str) -> str:
    return hashlib.sha256(sql.encode()).hexdigest()
