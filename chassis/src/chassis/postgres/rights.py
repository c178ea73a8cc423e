"""What the role of a service may do in its schema and in those that it reads, before the service relies on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from contracts.schemas import read_elsewhere

if TYPE_CHECKING:
    from chassis.postgres.pool import Connection

_RIGHTS: Final = """
SELECT current_user AS role, current_database() AS database, n.oid IS NOT NULL AS existing,
    has_database_privilege(current_database(), 'CREATE') AS may_make,
    has_schema_privilege(n.oid, 'USAGE') AS may_use, pg_get_userbyid(n.nspowner) AS owner,
    array(SELECT relname::text FROM pg_class WHERE relnamespace = n.oid AND relkind IN ('r', 'p') AND NOT (
        has_table_privilege(oid, 'SELECT') AND (relname = 'migrations' OR has_table_privilege(oid, 'INSERT')
        AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))) ORDER BY 1) AS closed,
    -- The function fails for what is no sequence, and the order of conditions is only that of a CASE.
    array(SELECT relname::text FROM pg_class WHERE relnamespace = n.oid
        AND CASE relkind WHEN 'S' THEN NOT has_sequence_privilege(oid, 'USAGE') END
        UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = n.oid
        AND NOT has_function_privilege(oid, 'EXECUTE') ORDER BY 1) AS withheld
FROM (SELECT 1) AS one LEFT JOIN pg_namespace n ON n.nspname = $1
"""
# A view that does not exist yet is no missing right: its service makes it.
_UNREADABLE: Final = """
SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE format('%s.%s', n.nspname, c.relname) = ANY($1)
AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')) ORDER BY 1
"""


async def missing_rights(connection: Connection, schema: str) -> str | None:
    """The privilege that the role of a schema's service lacks, as one line with the remedy; None if it lacks none."""
    row = await connection.fetchrow(_RIGHTS, schema)
    if row is None:
        return None
    role, database, owner = (f'"{row[name]}"' for name in ("role", "database", "owner"))
    if not row["existing"]:
        may = f"GRANT CREATE ON DATABASE {database} TO {role}, or CREATE SCHEMA {schema} AUTHORIZATION {role}"
        what = f"may not create schema {schema} in database {database}"
        remedy = f"run `segue migrate` as a role that may, or, as the database's owner: {may}"
        return None if row["may_make"] else f"DATABASE_URL: the role {role} {what}; {remedy}"
    if not row["may_use"]:
        what = (
            f"may not use schema {schema}, which belongs to {owner}; grant it with `segue roles`, connect as that role"
        )
        return f"DATABASE_URL: the role {role} {what}, or transfer the schema"
    if closed := row["closed"]:
        what = f"may not read and write all tables of schema {schema} ({', '.join(closed[:3])})"
        grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
        return f"DATABASE_URL: the role {role} {what}; as {owner}: {grant}, or connect as that"
    if withheld := row["withheld"]:
        what = f"may not use all sequences and functions of schema {schema} ({', '.join(withheld[:3])})"
        return f"DATABASE_URL: the role {role} {what}; as {owner}: `segue roles --apply`, or connect as that"
    unreadable = [each[0] for each in await connection.fetch(_UNREADABLE, read_elsewhere(schema))]
    if unreadable:
        what = f"may not read {', '.join(unreadable[:3])}, which the service of schema {schema} reads"
        return f"DATABASE_URL: the role {role} {what}; as the owner: `segue roles --apply`"
    return None
