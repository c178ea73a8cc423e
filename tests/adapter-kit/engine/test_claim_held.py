"""Of the attempts that a transaction holds it claims those that are due: in order, up to a limit, one action each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
import pytest_asyncio
from tests.builders import changed, queued_attempt

import adapter_kit
from adapter_kit.attempt.actions import Check, Post
from adapter_kit.attempt.model import Attempt
from adapter_kit.breaker.policy import Limits
from adapter_kit.breaker.store import BreakerStore
from adapter_kit.engine import ledger
from adapter_kit.engine.ledger import Held
from chassis.kafka.outbox import Outbox, Transaction
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.ids import AttemptId, attempt_id_for, job_id_for

BREAKERS = BreakerStore(Limits(), open_s=5)
JOBS = sorted((job_id_for("default", str(n)) for n in range(3)), key=lambda job_id: attempt_id_for(job_id, 1))
"""Three jobs, in the order of the ids of their attempts."""
FIRST, SECOND, THIRD = (attempt_id_for(job_id, 1) for job_id in JOBS)


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "fal_adapter", adapter_kit)
    async with open_pool(database_url, "fal_adapter", max_size=4) as opened:
        yield opened


@pytest.fixture
def outbox(pool: Pool) -> Outbox:
    # Its publisher is not running: the rows stay in the outbox.
    return Outbox(pool, cast("Any", None), Runtime("fal-adapter", make_telemetry("fal-adapter", None)))


def due(n: int, now: datetime, for_s: float, **changes: Any) -> Attempt:
    """The n-th attempt by id, which has been due for `for_s` seconds."""
    attempt = queued_attempt(JOBS[n], now - timedelta(seconds=10), next_action_at=now - timedelta(seconds=for_s))
    return changed(attempt, **changes) if changes else attempt


async def held_by(transaction: Transaction, *attempts: Attempt) -> Held:
    return Held(await ledger.create(transaction, [(attempt, None) for attempt in attempts]))


async def claimed(
    transaction: Transaction, held: Held, limit: int, late: AttemptId | None = None
) -> tuple[list[AttemptId], bool]:
    """The ids of the attempts that are claimed, and whether the limit left out others; `late` is held back."""
    stepped, more = await ledger.claim_held(
        transaction, held, limit, BREAKERS, lambda attempt: attempt.attempt_id == late
    )
    return [each.attempt.attempt_id for each in stepped], more


@pytest.mark.parametrize(
    ("limit", "expected", "more"), [(1, [THIRD], True), (2, [THIRD, FIRST], True), (3, [THIRD, FIRST, SECOND], False)]
)
async def test_what_has_been_due_for_longest_is_claimed_first(
    outbox: Outbox, limit: int, expected: list[AttemptId], more: bool
) -> None:
    async with outbox.transaction() as transaction:
        now = transaction.now
        held = await held_by(transaction, due(0, now, 2), due(1, now, 1), due(2, now, 3))
        assert await claimed(transaction, held, limit) == (expected, more)


async def test_queued_attempts_and_others_share_the_limit(outbox: Outbox) -> None:
    async with outbox.transaction() as transaction:
        now = transaction.now
        held = await held_by(transaction, due(0, now, 1), due(1, now, 2, state="running"), due(2, now, -1))
        assert await claimed(transaction, held, 1) == ([SECOND], True)


@pytest.mark.parametrize("late", [0, 1])
async def test_an_attempt_that_is_held_back_leaves_its_place_to_another(outbox: Outbox, late: int) -> None:
    async with outbox.transaction() as transaction:
        attempts = [due(n, transaction.now, 1) for n in range(2)]
        attempts[late] = replace(attempts[late], read_late=True)
        held = await held_by(transaction, *attempts)
        expected = [attempts[1 - late].attempt_id]
        assert await claimed(transaction, held, 1, attempts[late].attempt_id) == (expected, bool(late))


async def test_an_action_of_an_earlier_step_is_not_performed_again(outbox: Outbox) -> None:
    async with outbox.transaction() as transaction:
        held = await held_by(transaction, due(0, transaction.now, 1, state="submitting", submissions=1))
        held.attempts[FIRST] = replace(held.attempts[FIRST], action=Post(1))
        [after], _ = await ledger.claim_held(transaction, held, 1, BREAKERS, lambda _: False)
        assert (after.attempt.state.name, after.action) == ("ambiguous", None)


async def test_an_attempt_that_is_claimed_performs_the_action_of_its_step(outbox: Outbox) -> None:
    async with outbox.transaction() as transaction:
        held = await held_by(transaction, due(0, transaction.now, 1, state="running"))
        [after], _ = await ledger.claim_held(transaction, held, 1, BREAKERS, lambda _: False)
        assert isinstance(after.action, Check)
        assert held.attempts[FIRST] == after
