"""The check of the database: that it answers, takes writes, and has the schemas of this release."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import Final

import asyncpg

from chassis.errors import CannotStart
from chassis.postgres.connect import connect, error_text, refusal, usable_url
from chassis.postgres.migrations import BREAKING
from chassis.postgres.pool import AT_START, is_pooled, latest_migration
from chassis.postgres.rights import missing_rights
from chassis.settings.database.url import DatabaseUrl
from segue_cli.doctor.advice import Finding
from segue_cli.stack.migrations import SCHEMAS, applied_migration

LIMIT_S: Final = 5.0
MEND_URL: Final = "Start PostgreSQL, or correct DATABASE_URL (postgresql://user:password@host:port/name)."


async def database(env: Mapping[str, str]) -> list[Finding]:
    """Check that the database answers and accepts the login, and report how far each schema is migrated."""
    told = env.get("DATABASE_URL")
    if not told:
        todo = "`segue run` needs it; `segue up` brings an embedded one."
        return [Finding("database", "warn", "DATABASE_URL is not set", todo)]
    try:
        url = usable_url(told)
        async with asyncio.timeout(LIMIT_S):
            connection = await connect(url, statement_cache_size=0)
    except CannotStart as error:
        return [Finding("database", "fail", str(error), MEND_URL)]
    except AT_START as error:
        said_so = refusal(error) or f"DATABASE_URL: no connection to {url.name}: {error_text(error)}"
        return [Finding("database", "fail", str(said_so), MEND_URL)]
    try:
        notes = [Finding("database", "warn", f"DATABASE_URL: {note}") for note in url.parameters.notes]
        return [*await _server(connection, url), *notes, *await _schemas(connection)]
    finally:
        await connection.close(timeout=5)


async def _server(connection: asyncpg.Connection[asyncpg.Record], url: DatabaseUrl) -> list[Finding]:
    release = await connection.fetchval("SHOW server_version")
    found = [Finding("database", "ok", f"PostgreSQL {release} at {url.name}")]
    if await connection.fetchval("SELECT current_setting('transaction_read_only')") == "on":
        found = [Finding("database", "fail", "DATABASE_URL: it, or its role, takes no writes", "Name the primary.")]
    if await is_pooled(url):
        found.append(Finding("pooler", "ok", "there is a connection pooler; statements are not prepared"))
    return found


async def _schemas(connection: asyncpg.Connection[asyncpg.Record]) -> list[Finding]:
    found = []
    for schema, package in SCHEMAS.items():
        if lacking := await missing_rights(connection, schema):
            found.append(Finding(f"schema {schema}", "fail", lacking, "Grant it, or connect as another role."))
            continue
        newest = latest_migration(import_module(package))
        found.append(_schema(schema, newest, await applied_migration(connection, schema)))
    return found


def _schema(schema: str, newest: str, latest: str | None) -> Finding:
    what = f"schema {schema}"
    if latest is None:
        return Finding(what, "warn", "not there yet", "Its service makes it when it first starts.")
    if latest < newest:
        return Finding(what, "warn", f"at {latest}, this code brings {newest}", "Its service migrates when it starts.")
    if latest > newest:
        told = f"at {latest}, this code knows {newest}"
        works = not latest.endswith(BREAKING)
        return Finding(what, "warn" if works else "fail", told, "The database is of a newer release: update this one.")
    return Finding(what, "ok", latest)
