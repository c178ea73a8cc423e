"""`segue roles`: one role for each service and one for people, with the grants that the schema map asks for."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg

from chassis.errors import EXIT_SETTINGS, CannotStart, CannotStartYet
from chassis.postgres.connect import connect, error_text, refusal, usable_url
from chassis.postgres.pool import AT_START, TRANSIENT
from contracts.schemas import SCHEMAS, Schema

READER: Final = "reader"
_PREFIX: Final = re.compile(r"[a-z_][a-z0-9_]{0,30}")
_CONNECT_LIMIT_S: Final = 10.0
_OWNERS: Final = """
SELECT wanted.name, pg_get_userbyid(n.nspowner) AS owner, current_user AS me
FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, place) LEFT JOIN pg_namespace n ON n.nspname = wanted.name
ORDER BY place
"""
_CREATE: Final = """DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} LOGIN; END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO {role}', current_database());
END $$"""
READER_TIME_LIMIT: Final = "30s"
"""The longest that a statement of the role for people may take, unless an operator has set another limit."""
_LIMIT: Final = """DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles, unnest(rolconfig) AS c (set)
                   WHERE rolname = '{role}' AND starts_with(c.set, 'statement_timeout=')) THEN
        ALTER ROLE {role} SET statement_timeout = '{limit}';
    END IF;
END $$"""


def statements(prefix: str, owner: str | None) -> Iterator[str]:
    """The SQL that creates the roles and grants each what it needs; run again, it changes nothing.

    `owner` is the role that runs `segue migrate`; None: the role that runs the statements.
    """
    roles = [role_of(prefix, schema.service) for schema in SCHEMAS]
    for role in dict.fromkeys([*roles, prefix + READER]):
        yield _CREATE.format(role=role)
    yield _LIMIT.format(role=prefix + READER, limit=READER_TIME_LIMIT)
    for schema in SCHEMAS:
        yield from _own(schema, role_of(prefix, schema.service), _quoted(owner) if owner else "CURRENT_USER")
        for service, views in schema.read_by.items():
            yield from _views(schema, role_of(prefix, service), views)
        yield from _views(schema, prefix + READER, schema.for_people)


def role_of(prefix: str, service: str) -> str:
    """The role of a service."""
    return prefix + service.replace("-", "_")


def run(prefix: str, owner: str | None, *, apply: bool) -> int:
    """Print the statements, or apply them in DATABASE_URL in one transaction. Returns the exit code."""
    from segue_cli.stack.environment import given

    if not _PREFIX.fullmatch(prefix):
        return _failed(f"--prefix {prefix!r}: must be lower-case letters, digits and underscores, at most 31")
    if not apply:
        print("\n".join(f"{statement};" for statement in statements(prefix, owner)))
        return 0
    url = given(Path.cwd()).get("DATABASE_URL")
    if url is None:
        return _failed("DATABASE_URL is not set: there is no database to create roles in")
    try:
        asyncio.run(_apply(url, prefix, owner))
    except CannotStart as error:
        return _failed(str(error), error.exit_code)
    for schema in SCHEMAS:
        print(f"{schema.name}: {role_of(prefix, schema.service)}")
    return 0


async def _apply(url: str, prefix: str, owner: str | None) -> None:
    database = usable_url(url)
    try:
        async with asyncio.timeout(_CONNECT_LIMIT_S):
            connection = await connect(database, statement_cache_size=0)
    except AT_START as error:
        why = f"DATABASE_URL: no connection to {database.name}: {error_text(error)}"
        kind = CannotStartYet if isinstance(error, TRANSIENT) else CannotStart
        raise refusal(error) or kind(why) from error
    try:
        await _check_owners(connection, owner)
        async with connection.transaction():
            for statement in statements(prefix, owner):
                await connection.execute(statement)
    except asyncpg.PostgresError as error:
        remedy = "run it as the role that owns the schemas and may create roles, or as a superuser"
        raise CannotStart(f"DATABASE_URL: {error_text(error)}; nothing was granted: {remedy}") from error
    finally:
        await connection.close(timeout=5)


async def _check_owners(connection: asyncpg.Connection[asyncpg.Record], owner: str | None) -> None:
    for row in await connection.fetch(_OWNERS, [schema.name for schema in SCHEMAS]):
        if row["owner"] is None:
            raise CannotStart(f"DATABASE_URL: there is no schema {row['name']} yet: run `segue migrate` first")
        if row["owner"] != (owner or row["me"]):
            what = f"schema {row['name']} belongs to {row['owner']}, and later migrations are made by its owner"
            raise CannotStart(f"DATABASE_URL: {what}: give --owner {row['owner']}")


def _own(schema: Schema, role: str, owner: str) -> Iterator[str]:
    rows, defaults = (
        "SELECT, INSERT, UPDATE, DELETE",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema.name}",
    )
    yield f"GRANT USAGE ON SCHEMA {schema.name} TO {role}"
    yield f"GRANT {rows} ON ALL TABLES IN SCHEMA {schema.name} TO {role}"
    yield f"REVOKE INSERT, UPDATE, DELETE ON {schema.name}.migrations FROM {role}"
    yield f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema.name} TO {role}"
    yield f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema.name} TO {role}"
    yield f"{defaults} GRANT {rows} ON TABLES TO {role}"
    yield f"{defaults} GRANT USAGE ON SEQUENCES TO {role}"
    yield f"{defaults} GRANT EXECUTE ON FUNCTIONS TO {role}"


def _views(schema: Schema, role: str, views: tuple[str, ...]) -> Iterator[str]:
    if views:
        yield f"GRANT USAGE ON SCHEMA {schema.name} TO {role}"
        yield f"GRANT SELECT ON {', '.join(f'{schema.name}.{view}' for view in views)} TO {role}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _failed(why: str, code: int = EXIT_SETTINGS) -> int:
    print(f"segue: {why}", file=sys.stderr)
    return code
