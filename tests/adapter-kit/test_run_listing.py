"""One page of a provider's listing takes the place of the status requests of a hundred runs: on a real ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import pytest_asyncio
from tests.builders import changed, queued_attempt
from tests.patience import patient

import adapter_kit
from adapter_kit import run_listing
from adapter_kit.attempt.inputs import CalledBack, CancelWanted, Checked, Input
from adapter_kit.attempt.model import Attempt
from adapter_kit.breaker.policy import Limits
from adapter_kit.breaker.store import BreakerStore
from adapter_kit.engine import ledger
from adapter_kit.port.outcomes import NoAnswer, ProviderRef, Running
from adapter_kit.port.provider import ListedRun, Stage
from adapter_kit.run_listing import LOOK_EVERY_S, MANY, POSTPONED_S, RunListing
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import ONE_PLAN, Pool, migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.ids import job_id_for

NOW = datetime.now(UTC)
RUNS = 2 * MANY


@dataclass
class Listing:
    """The `stages` of a provider, with answers of the test's."""

    stages_by_id: dict[str, Stage] = field(default_factory=dict)
    passes: list[Sequence[ListedRun]] = field(default_factory=list)
    error: Exception | None = None
    meanwhile: Callable[[], Awaitable[None]] | None = None
    """Runs while the listing is read."""
    name: str = "fal"

    async def stages(self, runs: Sequence[ListedRun]) -> Mapping[str, Stage]:
        self.passes.append(runs)
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.error is not None:
            raise self.error
        return self.stages_by_id


def _running(attempt: Attempt) -> Checked:
    assert attempt.ref is not None
    return Checked(Running(), attempt.ref, NOW)


@dataclass
class Kit:
    """A ledger with runs, and the component that postpones their status requests."""

    pool: Pool
    outbox: Outbox
    listing: Listing
    callbacks_arrive: bool = False
    woken: int = 0

    def __post_init__(self) -> None:
        self.use(Runtime("fal-adapter", make_telemetry("fal-adapter", None)))

    def use(self, runtime: Runtime) -> None:
        self.runs = RunListing(
            cast("Any", self.listing),
            self.pool,
            runtime,
            callbacks_arrive=lambda: self.callbacks_arrive,
            wake=self._wake,
        )

    def _wake(self) -> None:
        self.woken += 1

    async def keep(self, *attempts: Attempt) -> None:
        async with self.outbox.transaction() as transaction:
            await ledger.create(transaction, [(one, None) for one in attempts])
            await ledger.apply(transaction, [(one.attempt_id, _running) for one in attempts])

    async def apply(self, attempt: Attempt, input_: Input) -> None:
        async with self.outbox.transaction() as transaction:
            await ledger.apply(transaction, [(attempt.attempt_id, input_)])

    async def claim(self) -> list[ledger.Stepped]:
        async with self.outbox.transaction() as transaction:
            return await ledger.claim(transaction, 10 * RUNS, BreakerStore(Limits(), open_s=5))

    async def due_in_s(self, attempt: Attempt) -> float:
        query = "SELECT extract(epoch FROM next_action_at - now())::float8 FROM attempts WHERE attempt_id = $1"
        return cast("float", await self.pool.fetchval(query, attempt.attempt_id))

    async def due(self, within_s: float = 0) -> int:
        query = "SELECT count(*) FROM attempts WHERE next_action_at <= now() + make_interval(secs => $1)"
        return cast("int", await self.pool.fetchval(query, within_s))


@pytest_asyncio.fixture
async def kit(database_url: str) -> AsyncIterator[Kit]:
    await migrate(database_url, "fal_adapter", adapter_kit)
    async with open_pool(database_url, "fal_adapter", max_size=2) as pool:
        runtime = Runtime("fal-adapter", make_telemetry("fal-adapter", None))
        yield Kit(pool, Outbox(pool, cast("Any", None), runtime), Listing())


def running(n: int, **changes: Any) -> Attempt:
    attempt = queued_attempt(
        job_id_for("default", str(n)), NOW, run_within_s=3_600, start_within_s=3_600, deadline_at=NOW + 2 * HOUR
    )
    fields = {"state": "running", "ref": ProviderRef(f"run-{n}", {}), "accepted_at": NOW, "started_at": NOW}
    return changed(attempt, **fields | changes)


HOUR = timedelta(hours=1)
ATTEMPTS = [running(n) for n in range(RUNS)]
GOING: dict[str, Stage] = {f"run-{n}": "running" for n in range(RUNS)}


async def test_runs_that_go_on_cost_one_listing_and_no_request(kit: Kit) -> None:
    await kit.keep(*ATTEMPTS)
    kit.listing.stages_by_id = GOING
    for _ in range(3):
        assert await kit.runs.look() == LOOK_EVERY_S
    assert await kit.due(within_s=POSTPONED_S - 10) == 0
    assert len(kit.listing.passes) == 3
    assert kit.woken == 0


async def test_runs_that_are_overdue_already_are_postponed_too(kit: Kit) -> None:
    await kit.keep(*ATTEMPTS)
    await kit.pool.execute("UPDATE attempts SET next_action_at = now() - interval '5 s'")
    kit.listing.stages_by_id = GOING
    await kit.runs.look()
    assert await kit.claim() == []


async def test_a_pass_after_a_useful_one_postpones_before_it_reads(kit: Kit) -> None:
    await kit.keep(*ATTEMPTS)
    await kit.pool.execute("UPDATE attempts SET next_action_at = now() - interval '5 s'")
    asked: list[ledger.Stepped] = []

    async def claim() -> None:
        asked.extend(await kit.claim())

    kit.listing.meanwhile = claim
    kit.listing.stages_by_id = {**GOING, "run-0": "ended"}
    del kit.listing.stages_by_id["run-1"]
    assert await kit.runs.look(hold=True) == LOOK_EVERY_S
    assert asked == []
    due = {ATTEMPTS[0].attempt_id, ATTEMPTS[1].attempt_id}
    assert {one.attempt.attempt_id for one in await kit.claim()} == due
    assert await kit.due(within_s=POSTPONED_S - 10) == 2  # Both are leased now.
    assert kit.woken == 1


async def test_what_was_postponed_for_a_list_that_fails_is_due_at_once(kit: Kit) -> None:
    await kit.keep(*ATTEMPTS)
    kit.listing.error = RuntimeError("broken")
    assert await kit.runs.look(hold=True) is None
    assert len(await kit.claim()) == RUNS


async def test_what_changes_while_it_is_postponed_is_due_as_changed(kit: Kit) -> None:
    await kit.keep(*ATTEMPTS)
    kit.listing.stages_by_id = GOING
    kit.listing.meanwhile = lambda: kit.apply(ATTEMPTS[0], CalledBack(ProviderRef("run-0", {})))
    await kit.runs.look(hold=True)
    assert [one.attempt.attempt_id for one in await kit.claim()] == [ATTEMPTS[0].attempt_id]


async def test_the_pause_after_passes_that_learn_little_grows(kit: Kit) -> None:
    await kit.keep(*ATTEMPTS)
    pauses: list[float] = []
    done = asyncio.Event()

    class Recorded(Runtime):
        async def pause(self, seconds: float) -> bool:
            pauses.append(round(seconds))
            if len(pauses) == 7:
                done.set()
                await asyncio.Event().wait()
            return True

    kit.use(Recorded("fal-adapter", make_telemetry("fal-adapter", None)))
    async with kit.runs.running(), asyncio.timeout(patient(10)):
        await done.wait()
    assert pauses == [1, 4, 8, 16, 32, 60, 60]


async def test_an_ended_run_is_due_at_once_and_one_that_is_not_listed_as_before(kit: Kit) -> None:
    await kit.keep(*ATTEMPTS)
    before = await kit.due_in_s(ATTEMPTS[1])
    kit.listing.stages_by_id = {**GOING, "run-0": "ended"}
    del kit.listing.stages_by_id["run-1"]
    await kit.runs.look()
    assert [one.attempt.attempt_id for one in await kit.claim()] == [ATTEMPTS[0].attempt_id]
    assert await kit.due_in_s(ATTEMPTS[1]) <= before
    assert kit.woken == 1


async def test_a_run_that_is_seen_to_start_is_requested_at_once(kit: Kit) -> None:
    waiting = running(RUNS, started_at=None, stage="queued")
    await kit.keep(*ATTEMPTS)
    async with kit.outbox.transaction() as transaction:
        await ledger.create(transaction, [(waiting, None)])
        await ledger.apply(transaction, [(waiting.attempt_id, CalledBack(None))])
    await kit.pool.execute(
        "UPDATE attempts SET check_by = now() + interval '5 min', next_action_at = now() + interval '5 s' "
        "WHERE attempt_id = $1",
        waiting.attempt_id,
    )
    kit.listing.stages_by_id = {**GOING, f"run-{RUNS}": "queued"}
    await kit.runs.look()
    assert await kit.claim() == []
    kit.listing.stages_by_id[f"run-{RUNS}"] = "running"
    await kit.runs.look()
    assert [one.attempt.attempt_id for one in await kit.claim()] == [waiting.attempt_id]


async def test_a_listing_that_shows_an_ended_run_for_ever_delays_it_until_check_by_only(kit: Kit) -> None:
    await kit.keep(*ATTEMPTS)
    await kit.pool.execute("UPDATE attempts SET check_by = now() + interval '7 s'")
    kit.listing.stages_by_id = GOING
    for _ in range(3):
        await kit.runs.look()
    assert await kit.due(within_s=7) == RUNS


@pytest.mark.parametrize("error", [None, RuntimeError("broken")])
async def test_a_listing_that_tells_nothing_changes_nothing(kit: Kit, error: Exception | None) -> None:
    await kit.keep(*ATTEMPTS)
    kit.listing.error = error
    before = await kit.pool.fetch("SELECT attempt_id, next_action_at, check_by FROM attempts ORDER BY attempt_id")
    assert await kit.runs.look() is None
    after = await kit.pool.fetch("SELECT attempt_id, next_action_at, check_by FROM attempts ORDER BY attempt_id")
    assert after == before


@pytest.mark.parametrize(
    "input_",
    [
        CancelWanted("client"),
        CalledBack(ProviderRef("run-0", {})),
        Checked(NoAnswer("HTTP 500"), ProviderRef("run-0", {}), NOW),
    ],
)
async def test_what_changes_while_the_listing_is_read_is_not_postponed(kit: Kit, input_: Input) -> None:
    await kit.keep(*ATTEMPTS)
    kit.listing.stages_by_id = GOING
    kit.listing.meanwhile = lambda: kit.apply(ATTEMPTS[0], input_)
    await kit.runs.look()
    assert await kit.due_in_s(ATTEMPTS[0]) < 5


async def test_a_run_whose_status_is_being_requested_keeps_its_lease(kit: Kit) -> None:
    await kit.keep(*ATTEMPTS)
    await kit.pool.execute("UPDATE attempts SET next_action_at = now() WHERE provider_ref = 'run-0'")
    assert len(await kit.claim()) == 1
    kit.listing.stages_by_id = {**GOING, "run-0": "ended"}
    await kit.runs.look()
    assert 10 < await kit.due_in_s(ATTEMPTS[0]) <= 15


async def test_rows_are_found_by_their_ids_also_by_a_plan_from_before_there_were_any(database_url: str) -> None:
    await migrate(database_url, "fal_adapter", adapter_kit)
    async with open_pool(database_url, "fal_adapter", max_size=1, planner=ONE_PLAN) as pool, pool.acquire() as one:
        await one.execute(f"PREPARE moving AS {run_listing._MOVE}")
        plan = "\n".join(row[0] for row in await one.fetch("EXPLAIN EXECUTE moving (NULL, NULL, NULL, NULL)"))
    assert "using attempts_pkey on attempts attempts_1" in plan
    assert "using due" not in plan


async def test_few_runs_are_requested_singly(kit: Kit) -> None:
    await kit.keep(*ATTEMPTS[: MANY - 1])
    assert await kit.runs.look() is None
    assert kit.listing.passes == []


async def test_while_callbacks_arrive_the_list_is_read_only_for_runs_that_are_due(kit: Kit) -> None:
    kit.callbacks_arrive = True
    await kit.keep(*ATTEMPTS)
    await kit.pool.execute("UPDATE attempts SET next_action_at = now() + interval '20 s'")
    assert await kit.runs.look() is None
    await kit.pool.execute("UPDATE attempts SET next_action_at = now()")
    kit.listing.stages_by_id = GOING
    assert await kit.runs.look() == LOOK_EVERY_S
    assert await kit.due() == 0
