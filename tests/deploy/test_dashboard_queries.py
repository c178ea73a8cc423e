"""The SQL of the dashboards on a real PostgreSQL, as the role for people: every panel finds what there is to find."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord
from tests.builders import artifact, attempt_event, attempt_fields, job_fields, job_requested
from tests.deploy.monitored import dashboards, targets

import log_sink
from chassis.delivery.handling import Delivered
from chassis.postgres.pool import migrate, open_pool
from contracts.envelope import encode
from contracts.failures import FailureKind
from contracts.ids import JobId, attempt_id_for, job_id_for
from contracts.messages.attempts import (
    AttemptAmbiguous,
    AttemptCancelled,
    AttemptFailed,
    AttemptSubmitted,
    AttemptSubmitting,
    AttemptSucceeded,
)
from contracts.messages.base import Message
from contracts.messages.jobs import JobAccepted, JobRerouted, JobSucceeded, PlannedRoute
from log_sink.store import Store
from pictures.macros import Shown, variables_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

BEGIN = datetime.now(UTC) - timedelta(minutes=10)
BOUGHT_TWICE = job_id_for("acme", "bought twice")
UNCLEAR = job_id_for("acme", "unclear")
CANCELLED = job_id_for("umbrella", "cancelled")
READER = "reader_of_dashboards"
READ = f"""
    CREATE ROLE {READER} LOGIN;
    GRANT USAGE ON SCHEMA log_sink TO {READER};
    GRANT SELECT ON log_sink.v_jobs, log_sink.v_attempts, log_sink.v_artifacts, log_sink.v_job_log TO {READER};
"""
OLD_JOBS = """
    INSERT INTO log_sink.jobs (job_id, tenant, track_id, requested_at, first_at, version, status, updated_at, input)
    SELECT n, 'tenant ' || n % 1000, n, at, at, 1, 'succeeded', at, jsonb_build_object('prompt', repeat('pad ', 50))
    FROM generate_series(1, 20000) n, LATERAL (SELECT now() - interval '90 days' + n * interval '6 minutes' AS at) a
"""
QUERIES = dict(targets("grafana-postgresql-datasource"))
BOARDS = dashboards()


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def bought_twice() -> list[Message]:
    """A job whose first output was lost after it had been paid for, and which Replicate made again."""
    job, first, second = BOUGHT_TWICE, attempt_id_for(BOUGHT_TWICE, 1), attempt_id_for(BOUGHT_TWICE, 2)
    lost = {"kind": FailureKind.OUTPUT_LOST, "message": "404 Not Found"}
    moved = {"from_attempt_id": first, "from_provider": "fal", "to_attempt_id": second, "to_provider": "replicate"}
    route = PlannedRoute(provider="fal", model="music/minimax-2", endpoint="fal-ai/minimax-music/v2")
    files = {"artifacts": (artifact(),), "cost_usd": 0.03}
    return [
        job_requested(job, at(0), tenant="acme"),
        JobAccepted(**job_fields(job, 1, "queued", at(1), tenant="acme"), plan=(route,), deadline_at=at(900)),
        attempt_event(AttemptSubmitting, job, 1, 1, at(2)),
        attempt_event(AttemptSubmitted, job, 1, 2, at(3), provider_ref="run-1"),
        AttemptFailed(**attempt_fields(job, 1, 3, at(4)), **lost, accepted=True, cost_usd=0.03),
        JobRerouted(**job_fields(job, 2, "queued", at(5), tenant="acme"), **moved, **lost),
        attempt_event(AttemptSubmitting, job, 2, 1, at(6)),
        attempt_event(AttemptSubmitted, job, 2, 2, at(7), provider_ref="run-2"),
        attempt_event(AttemptSucceeded, job, 2, 3, at(8), **files),
        JobSucceeded(
            **job_fields(job, 3, "succeeded", at(9), tenant="acme"),
            attempt_id=second,
            provider="replicate",
            model="music/minimax-2",
            artifacts=(artifact(),),
            cost_usd=0.06,
        ),
    ]


def unclear(job: JobId, tenant: str) -> list[Message]:
    """A job whose submit may or may not have been accepted."""
    lost = {"message": "the connection was closed", "resolve_by": at(3600)}
    return [
        job_requested(job, at(20), tenant=tenant),
        attempt_event(AttemptSubmitting, job, 2, 1, at(21)),
        attempt_event(AttemptAmbiguous, job, 2, 2, at(22), **lost),
    ]


def cancelled() -> list[Message]:
    """A job that was stopped while its run was under way, at a cost that nobody knows."""
    return [
        job_requested(CANCELLED, at(30), tenant="umbrella"),
        attempt_event(AttemptSubmitted, CANCELLED, 1, 2, at(31), provider_ref="run-3"),
        attempt_event(AttemptCancelled, CANCELLED, 1, 3, at(32), may_have_cost=True),
    ]


def delivered(messages: Sequence[Message]) -> list[Delivered]:
    """The messages as the log sink's consumer delivers them."""
    found = []
    for offset, message in enumerate(messages):
        sent = encode(message, source="test", traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
        record: Any = ConsumerRecord(
            sent.topic, 0, offset, 0, 0, sent.key, sent.value, None, len(sent.key), len(sent.value), sent.headers
        )
        event_id = dict(sent.headers)["ce_id"].decode()
        found.append(Delivered(message, event_id, f"00-{'ab' * 16}-{'cd' * 8}-01", record))
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def reader(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of a role that reads the views alone, to tables that three jobs have filled."""
    await migrate(database_url, "log_sink", log_sink)
    async with open_pool(database_url, "log_sink", max_size=1) as pool:
        await Store(pool).store(delivered([*bought_twice(), *unclear(UNCLEAR, "acme"), *cancelled()]))
    owner = await asyncpg.connect(database_url)
    await owner.execute(READ)
    connection = await asyncpg.connect(database_url.replace("segue@", f"{READER}@"))
    yield connection
    await connection.close()
    await owner.execute(f"DROP OWNED BY {READER}; DROP ROLE {READER}")
    await owner.close()


def shown(board: str, **chosen: str) -> Shown:
    since, until = BEGIN - timedelta(minutes=1), datetime.now(UTC) + timedelta(minutes=1)
    return Shown(since, until, 15, variables_of(BOARDS[board]), {"job": str(BOUGHT_TWICE), **chosen})


async def rows(reader: asyncpg.Connection[asyncpg.Record], name: str, **chosen: str) -> list[dict[str, Any]]:
    """What a panel's query finds, with variables as they are at first or as chosen."""
    sql = shown(name.partition(":")[0], **chosen).sql(QUERIES[name]["rawSql"])
    return [dict(row) for row in await reader.fetch(sql)]


async def test_every_panel_finds_something(reader: asyncpg.Connection[asyncpg.Record]) -> None:
    found = {name: await rows(reader, name) for name in QUERIES}
    assert {name for name, rows in found.items() if not rows} == set()


async def test_a_paid_run_that_is_not_the_result_counts_as_not_used(reader: asyncpg.Connection[asyncpg.Record]) -> None:
    assert await rows(reader, "money: Spent A") == [{"usd": pytest.approx(0.06)}]
    assert await rows(reader, "money: Paid and not used A") == [{"usd": pytest.approx(0.03)}]
    assert [row["why"] for row in await rows(reader, "money: Runs that were not used A")] == ["output_lost"]
    [tenant] = await rows(reader, "money: Cost per tenant A")
    assert tenant == {
        "tenant": "acme", "cost": pytest.approx(0.06), "paid": 2, "unused": pytest.approx(0.03),
        "per_result": pytest.approx(0.06),
    }  # fmt: skip


async def test_a_job_that_is_bought_twice_names_its_policy(reader: asyncpg.Connection[asyncpg.Record]) -> None:
    [job] = await rows(reader, "money: Bought twice, by policy A")
    assert (job["job_id"], job["policy"]) == (BOUGHT_TWICE, "lost_output_policy: retry_elsewhere")
    assert (job["first"], job["again"]) == (pytest.approx(0.03), pytest.approx(0.03))


LOST: dict[str, Any] = {"kind": FailureKind.OUTPUT_LOST, "message": "404", "accepted": True, "cost_usd": 0.03}
UNKNOWN: dict[str, Any] = {"kind": FailureKind.AMBIGUOUS_SUBMISSION, "message": "?", "accepted": False}
ABSENT: dict[str, Any] = {"kind": FailureKind.NEVER_ACCEPTED, "message": "no run", "accepted": False}
BROKEN: dict[str, Any] = {"kind": FailureKind.MODEL_ERROR, "message": "no", "accepted": True, "cost_usd": 0.03}
STOPPED: dict[str, Any] = {"may_have_cost": True}
STOPPED_FREE: dict[str, Any] = {"may_have_cost": False}
RETRY = "lost_output_policy: retry_elsewhere"
RESUBMIT = "ambiguity_policy: resubmit"


@pytest.mark.parametrize(
    ("first", "late", "policy", "cost"),
    [
        (LOST, None, RETRY, 0.03),
        (LOST, STOPPED, RETRY, None),
        (LOST, STOPPED_FREE, None, None),
        (UNKNOWN, None, RESUBMIT, None),
        (UNKNOWN, STOPPED, RESUBMIT, None),
        (UNKNOWN, STOPPED_FREE, None, None),
        (UNKNOWN, ABSENT, None, None),
        (UNKNOWN, BROKEN, RESUBMIT, 0.03),
        (ABSENT, None, None, None),
        (ABSENT, BROKEN, "found after its job had gone on", 0.03),
        (ABSENT, STOPPED, "found after its job had gone on", None),
    ],
)
async def test_a_job_counts_as_bought_twice_whatever_becomes_of_its_first_run(
    reader: asyncpg.Connection[asyncpg.Record],
    database_url: str,
    first: dict[str, Any],
    late: dict[str, Any] | None,
    policy: str | None,
    cost: float | None,
) -> None:
    job = job_id_for("acme", "what becomes of it")
    one, two = attempt_id_for(job, 1), attempt_id_for(job, 2)
    moved = {"from_attempt_id": one, "from_provider": "fal", "to_attempt_id": two, "to_provider": "replicate"}
    why = {name: first[name] for name in ("kind", "message")}
    messages: list[Message] = [
        job_requested(job, at(40), tenant="acme"),
        attempt_event(AttemptSubmitting, job, 1, 1, at(41)),
        attempt_event(AttemptFailed, job, 1, 2, at(42), **first),
        JobRerouted(**job_fields(job, 2, "queued", at(43), tenant="acme"), **moved, **why),
        attempt_event(AttemptSubmitted, job, 2, 1, at(44), provider_ref="again"),
    ]
    if late is not None:
        found = None if late is ABSENT else "found"
        event = AttemptFailed if "kind" in late else AttemptCancelled
        messages.append(attempt_event(event, job, 1, 3, at(50), **late, late=True, provider_ref=found))
    async with open_pool(database_url, "log_sink", max_size=1) as pool:
        await Store(pool).store(delivered(messages))

    shown = {row["job_id"]: row for row in await rows(reader, "money: Bought twice, by policy A")}
    assert shown.get(job, {}).get("policy") == policy
    assert shown.get(job, {}).get("first") == (None if cost is None else pytest.approx(cost))
    [count] = await rows(reader, "money: Jobs bought twice A")
    assert count["jobs"] == len(shown) == 1 + (policy is not None)


async def test_an_ambiguous_attempt_shows_what_such_a_run_usually_costs(
    reader: asyncpg.Connection[asyncpg.Record],
) -> None:
    [attempt] = await rows(reader, "money: Ambiguous A")
    assert (attempt["attempt_id"], attempt["might"]) == (attempt_id_for(UNCLEAR, 2), pytest.approx(0.03))
    assert await rows(reader, "money: Cost not known A") == [{"attempts": 1}]


@pytest.mark.parametrize(
    ("chosen", "jobs"),
    [
        ({}, {BOUGHT_TWICE, UNCLEAR, CANCELLED}),
        ({"search": str(UNCLEAR)}, {UNCLEAR}),
        ({"search": "ambient PAD"}, {BOUGHT_TWICE, UNCLEAR, CANCELLED}),
        ({"search": "it's nothing"}, set()),
        ({"tenant": "umbrella"}, {CANCELLED}),
        ({"status": "succeeded"}, {BOUGHT_TWICE}),
    ],
    ids=["all", "an id", "words", "nothing", "tenant", "status"],
)
async def test_the_search_finds_jobs_by_id_prompt_tenant_and_status(
    reader: asyncpg.Connection[asyncpg.Record], chosen: dict[str, str], jobs: set[JobId]
) -> None:
    found = await rows(reader, "jobs: Jobs A", **chosen)
    assert {row["job_id"] for row in found} == jobs
    assert all(row["trace_id"] == "ab" * 16 for row in found)


async def test_the_variable_of_tenants_lists_them(reader: asyncpg.Connection[asyncpg.Record]) -> None:
    board = shown("jobs")
    found = await reader.fetch(board.sql(board.variables["tenant"]["query"]))
    assert {row["tenant"] for row in found} == {"acme", "umbrella"}


@pytest.mark.parametrize(
    ("late", "cost"),
    [(None, 0.06), (BROKEN | {"cost_usd": 0.1}, 0.13), (STOPPED, None), (STOPPED_FREE, 0.03)],
    ids=["nothing late", "dearer", "not known", "free"],
)
async def test_the_cost_of_a_job_includes_what_became_known_after_its_end(
    reader: asyncpg.Connection[asyncpg.Record], database_url: str, late: dict[str, Any] | None, cost: float | None
) -> None:
    if late is not None:
        event = AttemptFailed if "kind" in late else AttemptCancelled
        message = attempt_event(event, BOUGHT_TWICE, 1, 4, at(60), **late, late=True, provider_ref="run-1")
        async with open_pool(database_url, "log_sink", max_size=1) as pool:
            await Store(pool).store(delivered([message]))
    [job] = await rows(reader, "jobs: Jobs A", search=str(BOUGHT_TWICE))
    assert job["cost"] == (None if cost is None else pytest.approx(cost))


@pytest.mark.parametrize("name", ["Jobs", "Jobs requested, by status", "the variable of tenants"])
async def test_the_jobs_of_a_period_are_found_without_reading_all_others(
    reader: asyncpg.Connection[asyncpg.Record], database_url: str, name: str
) -> None:
    owner = await asyncpg.connect(database_url)
    await owner.execute(OLD_JOBS)
    # Before PostgreSQL 18, an index whose first column is the tenant is no help where any tenant will do.
    await owner.execute("DROP INDEX log_sink.jobs_newest; DROP INDEX log_sink.jobs_open; ANALYZE log_sink.jobs")
    await owner.close()
    board = shown("jobs")
    asked = QUERIES[f"jobs: {name} A"]["rawSql"] if name.startswith("Jobs") else board.variables["tenant"]["query"]
    plan = "\n".join(row[0] for row in await reader.fetch("EXPLAIN " + board.sql(asked)))
    assert "on jobs_by_time" in plan
    assert "Seq Scan on jobs" not in plan
