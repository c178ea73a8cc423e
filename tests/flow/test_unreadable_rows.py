"""A row that cannot be read, such as one of another release, is postponed and does not block other rows."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.builders import candidate, job_requested, nobody_silent, queued_attempt

import adapter_kit
import orchestrator
from adapter_kit.breaker.policy import Limits
from adapter_kit.breaker.store import BreakerStore
from adapter_kit.engine import ledger
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.ids import job_id_for
from orchestrator import store
from orchestrator.decisions.decide import decide
from orchestrator.decisions.inputs import Requested
from orchestrator.timers import Timers

GOOD, BAD = (job_id_for("default", name) for name in ("good", "bad"))
BREAK = "UPDATE {} SET body = body - $2::text WHERE job_id = $1"
POSTPONED = "SELECT next_action_at > now() + interval '30 s' FROM {} WHERE job_id = $1"


@pytest.fixture
def runtime() -> Runtime:
    return Runtime("a-service", make_telemetry("a-service", None))


@pytest.mark.parametrize("missing", ["created_at", "deadline_at", "state"])
async def test_an_unreadable_attempt_does_not_block_others(database_url: str, runtime: Runtime, missing: str) -> None:
    await migrate(database_url, "fal_adapter", adapter_kit)
    breakers = BreakerStore(Limits(), open_s=5)
    async with open_pool(database_url, "fal_adapter", max_size=2) as pool:
        outbox = Outbox(pool, cast("Any", None), runtime)
        async with outbox.transaction() as transaction:
            for job_id in (BAD, GOOD):
                await ledger.create(transaction, [(queued_attempt(job_id, transaction.now), None)])
        await pool.execute(BREAK.format("attempts"), BAD, missing)
        async with outbox.transaction() as transaction:
            claimed = await ledger.claim(transaction, 10, breakers)
        assert [each.attempt.job_id for each in claimed] == [GOOD]
        assert await pool.fetchval(POSTPONED.format("attempts"), BAD)


async def test_an_unreadable_job_does_not_block_others(database_url: str, runtime: Runtime) -> None:
    await migrate(database_url, "orchestrator", orchestrator)
    async with open_pool(database_url, "orchestrator", max_size=2) as pool:
        outbox = Outbox(pool, cast("Any", None), runtime)
        async with outbox.transaction() as transaction:
            for job_id in (BAD, GOOD):
                now = transaction.now
                asked = Requested(job_requested(job_id, now), (candidate("fal"),), (), None, now)
                decision = decide(None, asked, now)
                assert decision.job is not None
                await store.save(transaction, {job_id: store.Stored(decision.job, None)})
        await pool.execute("UPDATE jobs SET next_action_at = now()")
        await pool.execute(BREAK.format("jobs"), BAD, "created_at")
        async with outbox.transaction() as transaction:
            due, unreadable = await store.due(transaction, 10)
        assert (list(due), list(unreadable)) == ([GOOD], [BAD])
        claimed = await Timers(outbox, nobody_silent, runtime).decide_due()
        assert claimed.some
        assert await pool.fetchval(POSTPONED.format("jobs"), BAD)
