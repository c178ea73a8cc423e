"""Retention deletes attempts that ended long ago, and a command delivered again afterwards is never paid for again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio
from tests.builders import claim_nothing

import adapter_kit
from adapter_kit.attempt.actions import Post
from adapter_kit.attempt.inputs import SubmitAnswered
from adapter_kit.breaker.policy import Limits
from adapter_kit.breaker.store import BreakerStore
from adapter_kit.engine import ledger
from adapter_kit.engine.command_handler import CommandHandler
from adapter_kit.engine.ledger import Stepped
from adapter_kit.engine.retention import retention_tasks
from adapter_kit.port.outcomes import Accepted, Failure, ProviderRef, Refused, SubmitOutcome
from adapter_kit.settings import AdapterSettings
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.postgres.retention import RetentionWorker
from chassis.runtime.runtime import Runtime
from contracts.failures import FailureKind
from contracts.ids import attempt_id_for, job_id_for, track_id_for
from contracts.messages.commands import RunAttempt

KEEP = timedelta(days=90)
BREAKERS = BreakerStore(Limits(), open_s=5)
REFUSED = Refused(Failure(FailureKind.INVALID_INPUT, "no such field", http_status=422))


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "fal_adapter", adapter_kit)
    async with open_pool(database_url, "fal_adapter", max_size=4) as opened:
        yield opened


@pytest.fixture
def outbox(pool: Pool) -> Outbox:
    # Its publisher is not running: the rows stay in the outbox.
    runtime = Runtime("fal-adapter", make_telemetry("fal-adapter", None))
    return Outbox(pool, cast("Any", None), cast("Any", runtime))


@pytest.fixture
def handler(outbox: Outbox, database_url: str) -> CommandHandler:
    settings = AdapterSettings(KAFKA_BOOTSTRAP_SERVERS="a:9092", DATABASE_URL=database_url, _env_file=None)
    return CommandHandler("fal", settings, outbox, claim_nothing, cast("Any", None), BREAKERS, results_kept_s=3_600)


def run(name: str, now: datetime, *, deadline: timedelta = timedelta(minutes=30)) -> RunAttempt:
    job_id = job_id_for("default", name)
    return RunAttempt(
        job_id=job_id,
        occurred_at=now,
        attempt_id=attempt_id_for(job_id, 1),
        provider="fal",
        track_id=track_id_for(job_id),
        n=1,
        model="music/test",
        endpoint="test/model",
        arguments={},
        modality="music",
        start_within_s=60,
        run_within_s=120,
        price_usd=0.2,
        deadline_at=now + deadline,
    )


async def deliver(handler: CommandHandler, *commands: RunAttempt) -> None:
    await handler([cast("Any", SimpleNamespace(message=command, traceparent=None)) for command in commands])


async def claim(outbox: Outbox) -> list[Stepped]:
    async with outbox.transaction() as transaction:
        return await ledger.claim(transaction, 100, BREAKERS)


async def end(outbox: Outbox, stepped: Stepped, outcome: SubmitOutcome = REFUSED) -> Stepped:
    attempt = stepped.attempt
    answered = SubmitAnswered(attempt.submissions, outcome)
    async with outbox.transaction() as transaction:
        after, _ = await ledger.apply(transaction, [(attempt.attempt_id, answered)])
        return after[attempt.attempt_id]


async def purge(pool: Pool) -> int:
    worker = RetentionWorker(
        pool, Runtime("fal-adapter", make_telemetry("x", None)), "fal_adapter", retention_tasks(KEEP)
    )
    done = await worker.once()
    assert done is not None
    return done["attempts"]


async def grow_old(pool: Pool, days: int) -> None:
    """Move every attempt and its deadline `days` into the past."""
    await pool.execute(
        """
        UPDATE attempts SET updated_at = updated_at - make_interval(days => $1),
            deadline_at = deadline_at - make_interval(days => $1),
            body = jsonb_set(body, '{deadline_at}', to_jsonb(deadline_at - make_interval(days => $1)))
        """,
        days,
    )


async def test_a_command_replayed_after_its_row_was_purged_sends_nothing(
    pool: Pool, outbox: Outbox, handler: CommandHandler
) -> None:
    now = await pool.fetchval("SELECT now()")
    original = run("a", now - timedelta(days=91))
    # The original course: claimed before the deadline, submitted, and refused.
    await deliver(handler, run("a", now))
    [posted] = await claim(outbox)
    assert isinstance(posted.action, Post)
    assert (await end(outbox, posted)).attempt.state.name == "failed"
    await grow_old(pool, 91)
    assert await purge(pool) == 1
    assert await pool.fetchval("SELECT count(*) FROM attempts") == 0

    await deliver(handler, original)
    [replayed] = await claim(outbox)
    assert replayed.action is None
    assert (replayed.attempt.state.name, replayed.attempt.submissions) == ("failed", 0)
    assert replayed.attempt.failure is not None
    assert replayed.attempt.failure.kind is FailureKind.EXPIRED
    assert await claim(outbox) == []


async def test_a_row_is_kept_until_its_deadline_has_passed(pool: Pool, outbox: Outbox, handler: CommandHandler) -> None:
    now = await pool.fetchval("SELECT now()")
    await deliver(handler, run("long", now, deadline=timedelta(days=400)))
    [posted] = await claim(outbox)
    await end(outbox, posted)
    await grow_old(pool, 91)
    assert await purge(pool) == 0
    await deliver(handler, run("long", now, deadline=timedelta(days=400)))
    assert await claim(outbox) == []


async def test_only_attempts_that_ended_long_ago_are_deleted(
    pool: Pool, outbox: Outbox, handler: CommandHandler
) -> None:
    now = await pool.fetchval("SELECT now()")
    await deliver(handler, run("old", now), run("live", now))
    for posted in await claim(outbox):
        if posted.attempt.job_id == job_id_for("default", "old"):
            await end(outbox, posted)
        else:
            await end(outbox, posted, Accepted(ProviderRef("run-1", {})))
    await grow_old(pool, 91)
    await deliver(handler, run("young", now))
    [posted] = [each for each in await claim(outbox) if each.attempt.job_id == job_id_for("default", "young")]
    await end(outbox, posted)
    await deliver(handler, run("followed up", now))
    for posted in await claim(outbox):
        if posted.attempt.job_id == job_id_for("default", "followed up"):
            await end(outbox, posted)
    await pool.execute(
        """
        UPDATE attempts SET updated_at = now() - interval '91 days', next_action_at = now(),
            deadline_at = now() - interval '91 days',
            body = jsonb_set(body, '{deadline_at}', to_jsonb(now() - interval '91 days')) WHERE job_id = $1
        """,
        job_id_for("default", "followed up"),
    )

    assert await purge(pool) == 1
    left = {row["job_id"] for row in await pool.fetch("SELECT job_id FROM attempts")}
    assert left == {job_id_for("default", name) for name in ("live", "young", "followed up")}
