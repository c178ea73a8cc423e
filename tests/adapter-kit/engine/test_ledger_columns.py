"""After every step, the columns that views and queries read agree with the attempt that the ledger returns."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import pytest_asyncio
from tests.builders import queued_attempt

import adapter_kit
from adapter_kit.attempt.inputs import CalledBack, CancelWanted, Checked, HeldBack, Input, SubmitAnswered
from adapter_kit.breaker.policy import Limits
from adapter_kit.breaker.store import BreakerStore
from adapter_kit.engine import ledger
from adapter_kit.port.outcomes import (
    Accepted,
    CallbackRefused,
    Failure,
    NoAnswer,
    ProviderRef,
    Refused,
    Throttled,
    Unclear,
)
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.failures import FailureKind
from contracts.ids import attempt_id_for, job_id_for

SAME = ("state", "version", "endpoint", "cancel_reason", "expects_callback", "called_back", "throttling_reported")
TIMES = ("deadline_at", "accepted_at")
LATER = datetime(2100, 1, 1, tzinfo=UTC)
BREAKERS = BreakerStore(Limits(), open_s=5)
JOB = job_id_for("default", "columns")
ATTEMPT_ID = attempt_id_for(JOB, 1)
REF = ProviderRef("r-1", {})
FAILURE = Failure(FailureKind.RATE_LIMITED, "slow down", http_status=429)
INPUTS = {
    "accepted": (SubmitAnswered(1, Accepted(REF)),),
    "called back": (SubmitAnswered(1, Accepted(REF)), CalledBack(REF)),
    "cancelled by its client": (SubmitAnswered(1, Accepted(REF)), CancelWanted("client")),
    "our address is refused": (
        SubmitAnswered(1, CallbackRefused(replace(FAILURE, kind=FailureKind.CALLBACK_REFUSED, http_status=422))),
    ),
    "refused": (SubmitAnswered(1, Refused(replace(FAILURE, kind=FailureKind.INVALID_INPUT, http_status=422))),),
    "throttled": (SubmitAnswered(1, Throttled(FAILURE, 1.0)),),
    "unclear": (SubmitAnswered(1, Unclear("HTTP 502")),),
    "a status is lost": (SubmitAnswered(1, Accepted(REF)), Checked(NoAnswer("HTTP 502"), REF, datetime.now(UTC))),
}


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "fal_adapter", adapter_kit)
    async with open_pool(database_url, "fal_adapter", max_size=4) as opened:
        yield opened


@pytest.mark.parametrize("inputs", [*INPUTS.values(), (HeldBack(LATER, "a cap"),)], ids=[*INPUTS, "held back"])
async def test_the_columns_agree_with_the_attempt(pool: Pool, inputs: tuple[Input, ...]) -> None:
    runtime = Runtime("fal-adapter", make_telemetry("fal-adapter", None))
    outbox = Outbox(pool, cast("Any", None), cast("Any", runtime))
    async with outbox.transaction() as transaction:
        await ledger.create(transaction, [(queued_attempt(JOB, transaction.now, expects_callback=True), None)])
    if not isinstance(inputs[0], HeldBack):
        async with outbox.transaction() as transaction:
            assert len(await ledger.claim(transaction, 1, BREAKERS)) == 1
    for input_ in inputs:
        async with outbox.transaction() as transaction:
            await ledger.apply(transaction, [(ATTEMPT_ID, input_)])
        row = await pool.fetchrow("SELECT *, body::text AS record FROM attempts")
        assert row is not None
        record = json.loads(row["record"])
        assert {name: row[name] for name in SAME} == {name: record.get(name) for name in SAME}
        for name in TIMES:
            assert row[name] == (datetime.fromisoformat(record[name]) if record.get(name) else None)
        assert row["started"] == (record.get("started_at") is not None)
        not_listed = record["state"] != "running" or record["tries"] or row["next_action_at"] <= row["updated_at"]
        assert (row["check_by"] is None) == bool(not_listed)
        assert row["failing"] == (record["failing"] or {}).get("step")
        assert row["failure_kind"] == (record.get("failure") or {}).get("kind")
        assert row["provider_ref"] == (record.get("ref") or {}).get("request_id")
