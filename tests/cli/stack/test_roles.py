"""The grants of `segue roles`: what a service finds with them when it starts, and without one of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path

import asyncpg
import pytest
from tests.patience import eventually, patient

from chassis.errors import CannotStart, CannotStartYet
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.polled_gauges import OUTBOX_GAUGES, GaugeQuery, PolledGauges, due_gauge
from chassis.postgres.pool import migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.schemas import SCHEMAS, read_elsewhere
from log_sink.store import QUARANTINE_GAUGE
from orchestrator.store import JOB_GAUGES
from segue_cli.stack.migrations import SCHEMAS as PACKAGES
from segue_cli.stack.migrations import apply_migrations, await_migrations
from segue_cli.stack.roles import READER, READER_TIME_LIMIT, role_of, statements

REPOSITORY = Path(__file__).parents[3]
PREFIX = "trial_"
ROLES = [*dict.fromkeys(role_of(PREFIX, schema.service) for schema in SCHEMAS), PREFIX + READER]

SESSIONS = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
"""The number of sessions that the database has had."""
CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_locks
WHERE relation = 'gateway.migrations'::regclass AND NOT granted
"""


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the owner of all schemas, after `segue migrate` and `segue roles --apply`."""
    await apply_migrations(database_url, PACKAGES, lambda _schema, _migration: None)
    connection = await asyncpg.connect(database_url)
    for _ in range(2):  # Run again, it changes nothing.
        for statement in statements(PREFIX, None):
            await connection.execute(statement)
    yield connection
    for role in ROLES:
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await connection.close()


def as_role(database_url: str, service: str) -> str:
    return database_url.replace("segue@", f"{role_of(PREFIX, service)}@")


async def start(database_url: str, name: str) -> None:
    """What the service of a schema does first when it starts."""
    [schema] = [each for each in SCHEMAS if each.name == name]
    await migrate(as_role(database_url, schema.service), name, import_module(schema.package))


async def test_each_service_finds_its_schema_migrated_and_all_its_rights(
    owner: asyncpg.Connection[asyncpg.Record], database_url: str
) -> None:
    for schema in SCHEMAS:
        await start(database_url, schema.name)
    assert await owner.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = ANY($1)", ROLES) == len(SCHEMAS) + 1


async def test_a_statement_of_the_role_for_people_has_a_limit_that_an_operator_may_change(
    owner: asyncpg.Connection[asyncpg.Record], database_url: str
) -> None:
    async def limit(role: str) -> str:
        connection = await asyncpg.connect(database_url.replace("segue@", f"{role}@"))
        try:
            return str(await connection.fetchval("SHOW statement_timeout"))
        finally:
            await connection.close()

    assert [await limit(role) for role in (PREFIX + READER, PREFIX + "gateway")] == [READER_TIME_LIMIT, "0"]
    await owner.execute(f"ALTER ROLE {PREFIX + READER} SET statement_timeout = 0")
    for statement in statements(PREFIX, None):
        await owner.execute(statement)
    assert await limit(PREFIX + READER) == "0"


@pytest.mark.parametrize(
    ("schema", "taken", "told"),
    [
        (
            "gateway",
            "SELECT ON log_sink.v_jobs FROM {}",
            "may not read log_sink.v_jobs, which the service of schema gat",
        ),
        (
            "gateway",
            "USAGE ON SCHEMA fal_adapter FROM {}",
            "may not read fal_adapter.v_callbacks, fal_adapter.v_free_pr",
        ),
        ("log_sink", "EXECUTE ON FUNCTION log_sink.add_events_partition FROM {}", "sequences and functions of schema"),
        (
            "log_sink",
            "USAGE ON SEQUENCE log_sink.events_seq FROM {}",
            r"functions of schema log_sink \(events_seq\); as",
        ),
        ("orchestrator", "DELETE ON orchestrator.outbox FROM {}", r"all tables of schema orchestrator \(outbox\); as "),
    ],
)
async def test_a_right_that_is_missing_is_named_at_the_start(
    owner: asyncpg.Connection[asyncpg.Record], database_url: str, schema: str, taken: str, told: str
) -> None:
    await owner.execute(f"REVOKE {taken.format(role_of(PREFIX, schema.replace('_', '-')))}")
    with pytest.raises(CannotStart, match=f"^DATABASE_URL: the role .* {told}"):
        await start(database_url, schema)


@pytest.mark.parametrize(
    ("name", "queries"),
    [
        ("orchestrator", (OUTBOX_GAUGES, due_gauge("jobs"), JOB_GAUGES)),
        ("fal_adapter", (OUTBOX_GAUGES, due_gauge("attempts"))),
        ("log_sink", (QUARANTINE_GAUGE,)),
    ],
)
@pytest.mark.usefixtures("owner")
async def test_the_gauges_of_a_service_are_read_with_its_rights(
    database_url: str, name: str, queries: tuple[GaugeQuery, ...]
) -> None:
    [schema] = [each for each in SCHEMAS if each.name == name]
    runtime = Runtime(schema.service, make_telemetry(schema.service, None))
    async with open_pool(as_role(database_url, schema.service), name, max_size=1) as pool:
        await PolledGauges(pool, runtime, *queries).read()


async def test_a_later_table_of_the_owner_is_granted(
    owner: asyncpg.Connection[asyncpg.Record], database_url: str
) -> None:
    await owner.execute("CREATE TABLE gateway.later (id bigint GENERATED ALWAYS AS IDENTITY, serial serial, a int)")
    connection = await asyncpg.connect(as_role(database_url, "gateway"))
    try:
        await connection.execute("INSERT INTO gateway.later (a) VALUES (1); DELETE FROM gateway.later")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DROP TABLE gateway.later")
    finally:
        await connection.close()


async def test_waiting_for_a_schema_waits_for_the_grants_too(
    owner: asyncpg.Connection[asyncpg.Record], database_url: str
) -> None:
    role, found = role_of(PREFIX, "gateway"), list[str]()
    url, schemas = as_role(database_url, "gateway"), {"gateway": PACKAGES["gateway"]}
    await owner.execute(f"REVOKE USAGE ON SCHEMA gateway FROM {role}")
    with pytest.raises(
        CannotStartYet, match=rf'the role "{role}" may not use schema gateway.* `segue roles`.*waited 0 s'
    ):
        await await_migrations(url, schemas, 0, lambda schema, _: found.append(schema))
    before = await owner.fetchval(SESSIONS)
    waiting = asyncio.create_task(await_migrations(url, schemas, patient(60), lambda schema, _: found.append(schema)))

    async def looked() -> bool:
        # The first look has ended by the time of the second.
        return bool(waiting.done() or await owner.fetchval(SESSIONS) >= before + 2)

    await eventually(looked, what="it has looked twice")
    assert not waiting.done()
    await owner.execute(f"GRANT USAGE ON SCHEMA gateway TO {role}")
    await waiting
    assert found == ["gateway"]


async def test_waiting_for_a_schema_outlasts_a_connection_that_is_lost(
    owner: asyncpg.Connection[asyncpg.Record], database_url: str
) -> None:
    found: list[str] = []
    url, schemas = as_role(database_url, "gateway"), {"gateway": PACKAGES["gateway"]}
    async with owner.transaction():
        await owner.execute("LOCK TABLE gateway.migrations")
        look = await_migrations(url, schemas, patient(60), lambda schema, _: found.append(schema))
        waiting = asyncio.create_task(look)

        async def cut() -> bool:
            return bool(waiting.done() or await owner.fetchval(CUT))

        await eventually(cut, what="it looks, and its connection is lost")
    await waiting
    assert found == ["gateway"]


async def test_a_schema_that_is_not_migrated_names_who_has_to_do_it(
    owner: asyncpg.Connection[asyncpg.Record], database_url: str
) -> None:
    await owner.execute("DROP INDEX gateway.idempotency_by_age; DELETE FROM gateway.migrations WHERE name LIKE '002%'")
    told = r"has to be migrated to 002_purging\.sql first: run `segue migrate` as the role that owns it, segue$"
    with pytest.raises(CannotStart, match=told):
        await start(database_url, "gateway")


def test_what_a_service_reads_elsewhere_is_found_by_its_schema() -> None:
    assert {name.partition(".")[0] for name in read_elsewhere("gateway")} >= {"log_sink", "fal_adapter"}
    assert read_elsewhere("shop") == ()


@pytest.mark.parametrize("folder", sorted({schema.service for schema in SCHEMAS} | {"adapter-kit"}))
def test_the_code_reads_no_view_of_another_schema_that_the_map_lacks(folder: str) -> None:
    """A view is written as `log_sink.v_jobs`, or with a placeholder where its schema is a provider's."""
    source = REPOSITORY / ("adapter-kit" if folder == "adapter-kit" else f"services/{folder}")
    text = "".join(path.read_text() for path in source.glob("src/**/*.py"))
    read = set(re.findall(r"(?:FROM|JOIN) (?:\w+|\{[\w.]+\})\.(\w+)", text))
    declared = {view for schema in SCHEMAS for view in schema.read_by.get(folder, ())}
    assert read == declared
