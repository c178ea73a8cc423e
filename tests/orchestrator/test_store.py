"""Jobs are loaded under locks, and written with their attempts in one statement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
import pytest
import pytest_asyncio
from tests.patience import eventually

import orchestrator
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.generation import Provider
from contracts.ids import JobId, attempt_id_for, job_id_for, track_id_for
from contracts.messages.jobs import AttemptOutcome
from orchestrator import store
from orchestrator.decisions.job import Job
from orchestrator.store import Stored

NOW = datetime.now(UTC)
ONE, TWO, THREE = (job_id_for("default", name) for name in ("one", "two", "three"))


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "orchestrator", orchestrator)
    async with open_pool(database_url, "orchestrator", max_size=4) as opened:
        yield opened


@pytest.fixture
def outbox(pool: Pool) -> Outbox:
    # Its publisher is not running, and nothing is emitted.
    return Outbox(pool, cast("Any", None), Runtime("orchestrator", make_telemetry("orchestrator", None)))


def attempt(job_id: JobId, n: int, outcome: Any = "live", provider: Provider = "fal") -> AttemptOutcome:
    return AttemptOutcome(attempt_id=attempt_id_for(job_id, n), n=n, provider=provider, outcome=outcome)


def stored(job_id: JobId, *attempts: AttemptOutcome) -> Stored:
    job = Job(
        job_id=job_id,
        track_id=track_id_for(job_id),
        tenant="default",
        fingerprint="f",
        deadline_at=NOW + timedelta(minutes=30),
        created_at=NOW,
        next_action_at=NOW,
        attempts=attempts,
    )
    return Stored(job, None)


async def save(outbox: Outbox, changed: Stored, before: Stored | None = None) -> None:
    job_id = changed.job.job_id
    async with outbox.transaction(opening=store.opening([job_id])) as transaction:
        await store.save(transaction, {job_id: changed}, {} if before is None else {job_id: before})


async def attempts(pool: Pool) -> dict[str, bool]:
    rows = await pool.fetch("SELECT attempt_id, live FROM attempts")
    return {row["attempt_id"]: row["live"] for row in rows}


async def waits(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))


async def fill(pool: Pool, rows: int) -> None:
    """Add jobs that are not due: PostgreSQL plans otherwise for a table with rows than for an empty one."""
    for n in range(rows):
        await pool.execute(
            "INSERT INTO jobs (job_id, state, version, next_action_at, deadline_at, body)"
            " VALUES ($1, 'queued', 1, now() + interval '1 hour', now(), '{}')",
            f"job-{n}",
        )
    await pool.execute("ANALYZE jobs")


async def lock(outbox: Outbox, locked: asyncio.Event, job_ids: list[JobId]) -> dict[JobId, Stored]:
    async with outbox.transaction(opening=store.opening(job_ids)) as transaction:
        locked.set()
        return await store.load(transaction, job_ids)


async def test_known_jobs_are_loaded_and_unknown_ids_are_not(outbox: Outbox) -> None:
    for each in (stored(ONE, attempt(ONE, 1)), stored(TWO)):
        await save(outbox, each)
    async with outbox.transaction(opening=store.opening([TWO, ONE, THREE])) as transaction:
        found = await store.load(transaction, [TWO, ONE, THREE])
    assert found == {ONE: stored(ONE, attempt(ONE, 1)), TWO: stored(TWO)}


async def test_the_opening_tells_the_time_of_the_transaction(outbox: Outbox) -> None:
    async with outbox.transaction(opening=store.opening([ONE])) as transaction:
        assert transaction.now == await transaction.connection.fetchval("SELECT now()")


async def test_a_transaction_without_an_opening_locks_as_well(pool: Pool, outbox: Outbox) -> None:
    async with outbox.transaction() as transaction:
        assert await store.load(transaction, [ONE, TWO]) == {}
        assert await pool.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 2


@pytest.mark.parametrize("rows", [0, 1000])
async def test_who_waits_for_an_unknown_id_sees_the_job_that_was_created_meanwhile(
    pool: Pool, outbox: Outbox, rows: int
) -> None:
    await fill(pool, rows)
    locked = asyncio.Event()
    async with outbox.transaction(opening=store.opening([ONE, TWO])) as transaction:
        assert await store.load(transaction, [ONE, TWO]) == {}
        waiting = asyncio.create_task(lock(outbox, locked, [TWO, THREE]))
        await eventually(lambda: waits(pool))
        await store.save(transaction, {TWO: stored(TWO, attempt(TWO, 1))})
        assert not locked.is_set()
    assert await waiting == {TWO: stored(TWO, attempt(TWO, 1))}


async def test_who_waits_for_a_known_job_sees_what_was_changed_meanwhile(pool: Pool, outbox: Outbox) -> None:
    await save(outbox, before := stored(ONE, attempt(ONE, 1)))
    after = Stored(replace(before.job, version=7), None)
    async with outbox.transaction(opening=store.opening([ONE])) as transaction:
        waiting = asyncio.create_task(lock(outbox, asyncio.Event(), [ONE]))
        await eventually(lambda: waits(pool))
        await store.save(transaction, {ONE: after}, {ONE: before})
    assert await waiting == {ONE: after}


@pytest.mark.parametrize("rows", [0, 1000])
async def test_who_waits_for_a_job_on_which_the_timers_decide_sees_their_decision(
    pool: Pool, outbox: Outbox, rows: int
) -> None:
    await fill(pool, rows)
    await save(outbox, before := stored(ONE, attempt(ONE, 1)))
    after = Stored(replace(before.job, version=7), None)
    async with outbox.transaction() as transaction:
        due, _ = await store.due(transaction, 10)  # The timers lock the row alone, and not the id.
        assert due == {ONE: before}
        waiting = asyncio.create_task(lock(outbox, asyncio.Event(), [ONE, TWO]))
        await eventually(lambda: waits(pool))
        await store.save(transaction, {ONE: after}, due)
    assert await waiting == {ONE: after}


async def test_an_attempt_is_closed_before_the_next_one_is_live(pool: Pool, outbox: Outbox) -> None:
    await save(outbox, first := stored(ONE, attempt(ONE, 1)))
    await save(outbox, stored(ONE, attempt(ONE, 1, "failed"), attempt(ONE, 2, provider="replicate")), first)
    assert await attempts(pool) == {attempt_id_for(ONE, 1): False, attempt_id_for(ONE, 2): True}


async def test_attempts_of_many_jobs_are_closed_and_ordered_together(pool: Pool, outbox: Outbox) -> None:
    before = {each: stored(each, attempt(each, 1)) for each in (ONE, TWO, THREE)}
    after = {each: stored(each, attempt(each, 1, "failed"), attempt(each, 2)) for each in (ONE, TWO)}
    after[THREE] = stored(THREE, attempt(THREE, 1, "succeeded"))
    for written, known in ((before, {}), (after, before)):
        async with outbox.transaction(opening=store.opening(written)) as transaction:
            await store.save(transaction, written, known)
    live = {attempt_id for attempt_id, live in (await attempts(pool)).items() if live}
    assert live == {attempt_id_for(ONE, 2), attempt_id_for(TWO, 2)}


async def test_attempts_that_have_not_changed_are_not_written(pool: Pool, outbox: Outbox) -> None:
    version_of = "SELECT xmin::text, xmax::text FROM attempts"
    await save(outbox, before := stored(ONE, attempt(ONE, 1)))
    row = await pool.fetchrow(version_of)
    await save(outbox, Stored(replace(before.job, version=2), None), before)
    assert await pool.fetchrow(version_of) == row
    assert await pool.fetchval("SELECT version FROM jobs") == 2


async def test_what_is_written_twice_is_the_same_and_no_attempt_is_live_again(pool: Pool, outbox: Outbox) -> None:
    for each in (stored(ONE, attempt(ONE, 1)), stored(ONE, attempt(ONE, 1, "failed")), stored(ONE, attempt(ONE, 1))):
        await save(outbox, each)
        await save(outbox, each)
    assert await attempts(pool) == {attempt_id_for(ONE, 1): False}


async def test_a_job_cannot_have_two_live_attempts(pool: Pool, outbox: Outbox) -> None:
    with pytest.raises(asyncpg.UniqueViolationError, match="one_live_attempt_a_job"):
        await save(outbox, stored(ONE, attempt(ONE, 1), attempt(ONE, 2)))
    assert await attempts(pool) == {}
