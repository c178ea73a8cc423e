"""The schemas of all services, and `segue migrate`, which brings them to this release or waits until they are there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

import asyncpg

from chassis.errors import EXIT_SETTINGS, CannotStart, CannotStartYet
from chassis.postgres.connect import connect, error_text, refusal, usable_url
from chassis.postgres.pool import AT_START, TRANSIENT, latest_migration, migrate
from chassis.postgres.rights import missing_rights
from chassis.runtime.retry import retry
from contracts.schemas import SCHEMAS as MAP

SCHEMAS: Final = {schema.name: schema.package for schema in MAP}
"""The schema of each service, and the package with its migrations."""
LOOK_EVERY_S: Final = 1.0
_CONNECT_LIMIT_S: Final = 5.0
_LOOK_LIMIT_S: Final = 30.0
"""Time limit for the questions of one look, in seconds: a server that hangs is connected to again."""

Tell = Callable[[str, str], None]
"""Called with a schema, and what became of it."""


class NotThereYet(Exception):
    """What is waited for is not there; one line that says what is missing."""


async def applied_migration(connection: asyncpg.Connection[asyncpg.Record], schema: str) -> str | None:
    """The name of the newest migration of a schema; None if it has none."""
    if await connection.fetchval("SELECT to_regclass($1)::text", f"{schema}.migrations") is None:
        return None
    newest: str | None = await connection.fetchval(f"SELECT max(name) FROM {schema}.migrations")  # noqa: S608 - ours
    return newest


async def apply_migrations(url: str, schemas: Mapping[str, str], tell: Tell) -> None:
    """Bring each schema to the newest migration of its package. Raises CannotStart."""
    for schema, package in schemas.items():
        module = import_module(package)
        await migrate(url, schema, module)
        tell(schema, latest_migration(module))


async def await_migrations(url: str, schemas: Mapping[str, str], within_s: float, tell: Tell) -> None:
    """Wait until each schema has the newest migration of its package, and the role may see that; nothing is changed.

    Raises CannotStartYet if that is not so within `within_s` seconds, and CannotStart at once if the database refuses
    the login.
    """

    async def found() -> None:
        for schema, migration in (await _applied(url, schemas)).items():
            tell(schema, migration)

    try:
        await retry(found, NotThereYet, pause_s=LOOK_EVERY_S, within_s=within_s)
    except NotThereYet as error:
        raise CannotStartYet(f"{error}; waited {within_s:.0f} s") from error


async def _applied(url: str, schemas: Mapping[str, str]) -> dict[str, str]:
    """The newest migration of each schema. Raises NotThereYet if a schema lacks one of its package's."""
    database = usable_url(url)
    try:
        async with asyncio.timeout(_CONNECT_LIMIT_S):
            connection = await connect(database, statement_cache_size=0)
    except AT_START as error:
        if (why := refusal(error)) is not None:
            raise why from error
        raise NotThereYet(f"DATABASE_URL: no connection to {database.name}: {error_text(error)}") from error
    try:
        async with asyncio.timeout(_LOOK_LIMIT_S):
            return {schema: await _newest(connection, schema, package) for schema, package in schemas.items()}
    except TRANSIENT as error:
        raise NotThereYet(f"DATABASE_URL: {database.name} did not answer: {error_text(error)}") from error
    finally:
        with suppress(*TRANSIENT):
            await connection.close(timeout=5)


async def _newest(connection: asyncpg.Connection[asyncpg.Record], schema: str, package: str) -> str:
    """The newest migration of a schema, whose rights may still be granted. Raises NotThereYet and TRANSIENT."""
    newest = latest_migration(import_module(package))
    try:
        applied = await applied_migration(connection, schema)
    except asyncpg.InsufficientPrivilegeError as error:
        missing = await missing_rights(connection, schema)
        raise NotThereYet(missing or f"DATABASE_URL: {error_text(error)}: run `segue roles --apply`") from error
    if applied is None or applied < newest:
        behind = f"schema {schema} is at {applied or 'nothing'}, not yet at {newest}"
        raise NotThereYet(f"DATABASE_URL: {behind}: run `segue migrate`")
    return applied


def run(names: Sequence[str], wait_s: float | None) -> int:
    """Migrate the schemas of these names or services, or all; with `wait_s`, only wait for that many seconds.

    Returns the exit code.
    """
    from segue_cli.stack.environment import given

    names = [name.replace("-", "_") for name in names]
    if unknown := [name for name in names if name not in SCHEMAS]:
        return _failed(f"there is no schema {unknown[0]!r}: one of {', '.join(SCHEMAS)}")
    schemas = {name: package for name, package in SCHEMAS.items() if not names or name in names}
    url = given(Path.cwd()).get("DATABASE_URL")
    if url is None:
        return _failed("DATABASE_URL is not set: there is no database to migrate")
    try:
        if wait_s is None:
            asyncio.run(apply_migrations(url, schemas, _tell))
        else:
            asyncio.run(await_migrations(url, schemas, wait_s, _tell))
    except CannotStart as error:
        return _failed(str(error), error.exit_code)
    return 0


def _tell(schema: str, migration: str) -> None:
    print(f"{schema}: at {migration}", flush=True)


def _failed(why: str, code: int = EXIT_SETTINGS) -> int:
    print(f"segue: {why}", file=sys.stderr)
    return code
