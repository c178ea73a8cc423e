"""The transaction of a batch claims what it makes due: one commit for a command, its intent and its lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio
from tests.builders import queued_attempt
from tests.patience import eventually

import adapter_kit
from adapter_kit.artifacts.collector import Collector
from adapter_kit.attempt.inputs import CalledBack, CancelWanted, Input, SubmitAnswered
from adapter_kit.attempt.model import HELD_UP_S, Attempt
from adapter_kit.breaker.policy import Limits
from adapter_kit.breaker.store import BreakerStore, admission
from adapter_kit.engine import ledger
from adapter_kit.engine.callback_monitor import CallbackMonitor
from adapter_kit.engine.callbacks import Callbacks
from adapter_kit.engine.claim_loop import ClaimLoop
from adapter_kit.engine.command_handler import CommandHandler
from adapter_kit.engine.executor import ActionExecutor
from adapter_kit.engine.ledger import Held
from adapter_kit.engine.outcome_writer import OutcomeWriter
from adapter_kit.engine.reconciler import Reconciler
from adapter_kit.late_commands import READ_LATE_S, LateCommands
from adapter_kit.port.outcomes import (
    Accepted,
    AlreadyOver,
    Callback,
    CancelOutcome,
    CheckOutcome,
    Failure,
    FindOutcome,
    KeyAccepted,
    NotFound,
    Output,
    ProbeOutcome,
    Produced,
    ProviderRef,
    Refused,
    SubmitOutcome,
    Unclear,
    Waiting,
)
from adapter_kit.port.provider import ListedRun, LostSubmission, Run, Stage, Submission
from adapter_kit.settings import AdapterSettings
from chassis.artifacts import ArtifactStore
from chassis.kafka.outbox import Outbox, Transaction
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.failures import FailureKind
from contracts.generation import Provider as ProviderName
from contracts.ids import AttemptId, attempt_id_for, job_id_for
from contracts.messages.callbacks import CallbackReceived
from contracts.messages.commands import CancelAttempt, RunAttempt

KEPT_S = 3_600.0
DATA_URL = "data:audio/wav;base64,AAAA"


@dataclass
class HeldProvider:
    """A provider that answers a submit once it is told to, and counts the calls."""

    pool: Pool
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    states: list[str | None] = field(default_factory=list)
    """The committed state of the attempt, as of each submit."""
    submitted: list[AttemptId] = field(default_factory=list)
    checks: int = 0
    refuses: bool = False
    """Whether it refuses the input of each submit, so that the attempt ends with its one call."""

    @property
    def name(self) -> ProviderName:
        return "fal"

    async def submit(self, submission: Submission) -> SubmitOutcome:
        self.submitted.append(submission.attempt_id)
        self.states.append(await state_of(self.pool, submission.attempt_id))
        await self.answers.wait()
        if self.refuses:
            return Refused(Failure(FailureKind.INVALID_INPUT, "no"))
        return Accepted(ProviderRef(f"run-{submission.attempt_id}", {}))

    async def check(self, run: Run) -> CheckOutcome:
        self.checks += 1
        return Waiting()

    async def cancel(self, run: Run) -> CancelOutcome:
        return AlreadyOver()

    async def find(
        self, lost: Sequence[LostSubmission], taken: frozenset[str], asked_at: datetime
    ) -> Mapping[AttemptId, FindOutcome]:
        return {each.attempt_id: NotFound(conclusive=False) for each in lost}

    async def stages(self, runs: Sequence[ListedRun]) -> Mapping[str, Stage]:
        return {}

    def read_callback(self, body: str) -> Callback | None:
        return Callback(ProviderRef(body, {}), over=True)

    def read_result(self, body: str, run: Run) -> Produced | None:
        return Produced((Output(DATA_URL),))

    async def probe(self, endpoint: str) -> ProbeOutcome:
        return KeyAccepted()


@dataclass
class Progress:
    """How far the commands have been read: up to now, once `read` is set."""

    read: bool = False
    asked: int = 0

    async def heard_until(self, keys: Sequence[str], /) -> Mapping[str, float | None]:
        self.asked += 1
        return dict.fromkeys(keys, monotonic() if self.read else None)


@dataclass
class Engine:
    """An adapter's claim loop and its handler, without Kafka."""

    pool: Pool
    provider: HeldProvider
    loop: ClaimLoop
    outbox: Outbox
    handler: CommandHandler
    _handler_with: Any
    progress: Progress

    async def handle(self, *messages: RunAttempt | CancelAttempt | CallbackReceived) -> None:
        await self.handler(batch_of(*messages))

    def handler_with(self, claim: Any) -> CommandHandler:
        return cast("CommandHandler", self._handler_with(claim))


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "fal_adapter", adapter_kit)
    async with open_pool(database_url, "fal_adapter", max_size=4) as opened:
        yield opened


@asynccontextmanager
async def engine_of(pool: Pool, database_url: str, store: Path, concurrency: int = 10) -> AsyncIterator[Engine]:
    runtime = Runtime("fal-adapter", make_telemetry("fal-adapter", None))
    settings = AdapterSettings(KAFKA_BOOTSTRAP_SERVERS="a:9092", DATABASE_URL=database_url, _env_file=None)
    outbox = Outbox(pool, cast("Any", None), runtime)  # Its publisher is not running: the rows stay in the outbox.
    provider, monitor, breakers = HeldProvider(pool), CallbackMonitor("fal"), BreakerStore(Limits(), open_s=5)
    async with httpx.AsyncClient() as client, AsyncExitStack() as stack:
        executor = ActionExecutor(
            provider,
            Collector(client, ArtifactStore.open(store.as_uri(), writing=True)),
            runtime,
            reconciler=Reconciler(provider, pool, cast("Any", None)),
            callback_url=lambda _: None,
            callback_monitor=monitor,
        )
        writer, progress = OutcomeWriter(outbox, breakers), Progress()
        late = LateCommands(progress, runtime)
        loop = ClaimLoop(
            executor, writer, outbox, pool, runtime, concurrency=concurrency, breakers=breakers, late_commands=late
        )
        callbacks = Callbacks(provider, monitor)

        def handler_with(claim: Any) -> CommandHandler:
            return CommandHandler("fal", settings, outbox, claim, callbacks, breakers, results_kept_s=KEPT_S)

        await stack.enter_async_context(loop.running())
        stack.callback(provider.answers.set)
        yield Engine(pool, provider, loop, outbox, handler_with(loop.claim_within), handler_with, progress)


@pytest_asyncio.fixture
async def engine(pool: Pool, database_url: str, tmp_path: Path) -> AsyncIterator[Engine]:
    async with engine_of(pool, database_url, tmp_path) as running:
        yield running


async def test_a_command_is_committed_together_with_its_intent_and_before_the_post(engine: Engine) -> None:
    seen: list[tuple[str | None, str | None, int]] = []

    async def claim_and_look(transaction: Transaction, held: Held) -> None:
        await engine.loop.claim_within(transaction, held)
        within = await transaction.connection.fetchval("SELECT state FROM attempts")
        outside = await engine.pool.fetchval("SELECT state FROM attempts")
        seen.append((within, outside, len(engine.provider.states)))

    await engine.handler_with(claim_and_look)(batch_of(command("one")))
    await eventually(lambda: submitted(engine, 1))
    assert seen == [("submitting", None, 0)]
    assert engine.provider.states == ["submitting"]


async def test_a_batch_that_is_delivered_again_posts_nothing(engine: Engine) -> None:
    for _ in range(3):
        await engine.handle(command("one"))
    await engine.handle(command("two"))
    await eventually(lambda: submitted(engine, 2))
    assert len(engine.provider.states) == 2


async def test_nothing_is_posted_if_the_transaction_fails_after_the_claim(engine: Engine) -> None:
    class Failed(Exception):
        pass

    async def claim_and_fail(transaction: Transaction, held: Held) -> None:
        await engine.loop.claim_within(transaction, held)
        raise Failed

    with pytest.raises(Failed):
        await engine.handler_with(claim_and_fail)(batch_of(command("one")))
    assert await engine.pool.fetchval("SELECT count(*) FROM attempts") == 0
    await engine.handle(command("two"))
    await eventually(lambda: submitted(engine, 1))
    assert engine.provider.states == ["submitting"], "the attempt whose transaction failed was submitted too"


async def test_nothing_is_posted_if_the_transaction_took_half_of_the_lease(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_s = 0.0
    for module in ("claim_loop", "executor"):
        monkeypatch.setattr(f"adapter_kit.engine.{module}.monotonic", lambda: monotonic() + passed_s)

    async def claim_and_wait(transaction: Transaction, held: Held) -> None:
        nonlocal passed_s
        await engine.loop.claim_within(transaction, held)
        passed_s = HELD_UP_S + 0.1

    await engine.handler_with(claim_and_wait)(batch_of(command("one")))
    await eventually(lambda: is_in(engine, attempt_id_for(job_id_for("default", "one"), 1), "queued"))
    assert engine.provider.states == []
    passed_s = 0.0
    await eventually(lambda: submitted(engine, 1))


async def test_nothing_is_claimed_that_would_not_be_posted(
    engine: Engine, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_s = HELD_UP_S + 0.1
    monkeypatch.setattr("adapter_kit.engine.claim_loop.monotonic", lambda: monotonic() + passed_s)
    unclaimed = "SELECT state, body ->> 'submissions' AS submissions FROM attempts"

    async def claim_late(transaction: Transaction, held: Held) -> None:
        await engine.loop.claim_within(transaction, held)
        row = await transaction.connection.fetchrow(unclaimed)
        assert row is not None
        assert row["state"] == "queued"

    await engine.handler_with(claim_late)(batch_of(command("one")))
    passed_s = 0.0
    await eventually(lambda: submitted(engine, 1))


async def test_no_more_is_claimed_than_there_are_free_workers(pool: Pool, database_url: str, tmp_path: Path) -> None:
    async with engine_of(pool, database_url, tmp_path, concurrency=1) as engine:
        await engine.handle(command("one"))
        await engine.handle(command("two"), command("three"))
        states = await pool.fetch("SELECT state FROM attempts")
        assert sorted(row["state"] for row in states) == ["queued", "queued", "submitting"]
        engine.provider.answers.set()
        await eventually(lambda: submitted(engine, 3))


async def test_older_attempts_are_claimed_before_those_of_a_batch(
    pool: Pool, database_url: str, tmp_path: Path
) -> None:
    async with engine_of(pool, database_url, tmp_path, concurrency=1) as engine:
        names = ("one", "two", "three")
        await engine.handle(command("one"))
        await engine.handle(command("two"))
        engine.loop._free = 1  # As after a call that has ended, before the loop has looked.
        await engine.handle(command("three"))
        engine.provider.answers.set()
        await eventually(lambda: submitted(engine, 3))
        assert engine.provider.submitted == [attempt_id_for(job_id_for("default", name), 1) for name in names]


@dataclass
class Passes:
    """The passes of a claim loop, which can be held up before and after they claim."""

    seen: int = 0
    """How many have claimed."""
    begun: int = 0
    before: asyncio.Event = field(default_factory=asyncio.Event)
    after: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    """The passes of the claim loop, none of which begins for the reason alone that the last was long ago."""
    monkeypatch.setattr("chassis.postgres.due_rows.LONGEST_SLEEP_S", 3600)
    made, claim = Passes(), ledger.claim
    made.before.set()
    made.after.set()

    async def counted(*given: Any) -> list[ledger.Stepped]:
        made.begun += 1
        await made.before.wait()
        claimed = await claim(*given)
        made.seen += 1
        await made.after.wait()
        return claimed

    monkeypatch.setattr("adapter_kit.engine.claim_loop.ledger.claim", counted)
    return made


async def at_least(count: Callable[[], int], number: int) -> bool:
    return count() >= number


@asynccontextmanager
async def busy(pool: Pool, database_url: str, store: Path, passes: Passes) -> AsyncIterator[Engine]:
    """An engine whose one worker is busy with an attempt, and whose loop sleeps."""
    async with engine_of(pool, database_url, store, concurrency=1) as engine:
        engine.provider.refuses = True
        await eventually(lambda: at_least(lambda: passes.seen, 1))
        await engine.handle(command("one"))
        await eventually(lambda: submitted(engine, 1))
        yield engine


async def test_a_worker_that_becomes_free_before_the_commit_of_a_batch_takes_its_attempt(
    pool: Pool, database_url: str, tmp_path: Path, passes: Passes
) -> None:
    async with busy(pool, database_url, tmp_path, passes) as engine:

        async def claim_before_a_pass(transaction: Transaction, held: Held) -> None:
            await engine.loop.claim_within(transaction, held)
            seen = passes.seen
            engine.provider.answers.set()
            await eventually(lambda: at_least(lambda: passes.seen, seen + 1))

        await engine.handler_with(claim_before_a_pass)(batch_of(command("two")))
        await eventually(lambda: submitted(engine, 2))


@pytest.mark.parametrize("committed", ["after the pass", "within the pass"])
async def test_no_later_command_overtakes_an_attempt_that_was_left_to_the_loop(
    pool: Pool, database_url: str, tmp_path: Path, passes: Passes, committed: str
) -> None:
    one, two, three = command("one"), command("two"), command("three")
    async with busy(pool, database_url, tmp_path, passes) as engine:
        began = passes.begun

        async def claim_before_a_pass(transaction: Transaction, held: Held) -> None:
            await engine.loop.claim_within(transaction, held)
            if committed == "within the pass":
                passes.after.clear()
            seen = passes.seen
            engine.provider.answers.set()
            await eventually(lambda: at_least(lambda: passes.seen, seen + 1))
            passes.before.clear()

        await engine.handler_with(claim_before_a_pass)(batch_of(two))
        passes.after.set()
        await eventually(lambda: at_least(lambda: passes.begun, began + 2))
        await engine.handle(three)
        assert await state_of(pool, three.attempt_id) == "queued"
        passes.before.set()
        await eventually(lambda: submitted(engine, 3))
        assert engine.provider.submitted == [each.attempt_id for each in (one, two, three)]


async def test_a_batch_for_which_no_worker_is_free_makes_the_loop_read_nothing(
    pool: Pool, database_url: str, tmp_path: Path, passes: Passes
) -> None:
    async with busy(pool, database_url, tmp_path, passes) as engine:
        before = passes.begun
        for name in ("two", "three", "four"):
            await engine.handle(command(name))
        assert passes.begun == before, "a pass without a free worker read the ledger"
        engine.provider.answers.set()
        await eventually(lambda: submitted(engine, 4))


@pytest.mark.parametrize("late_first", [True, False])
async def test_an_attempt_that_waits_for_a_cancel_takes_no_worker_from_one_of_its_batch(
    pool: Pool, database_url: str, tmp_path: Path, passes: Passes, late_first: bool
) -> None:
    names = iter(sorted(("a", "b"), key=lambda name: command(name).attempt_id, reverse=not late_first))
    late, in_time = late_command(next(names)), command(next(names))
    async with engine_of(pool, database_url, tmp_path, concurrency=1) as engine:
        await eventually(lambda: at_least(lambda: passes.seen, 1))
        await engine.handle(late, in_time)
        await eventually(lambda: submitted(engine, 1))
        assert engine.provider.submitted == [in_time.attempt_id]


async def test_an_attempt_that_cannot_be_stepped_takes_no_worker_from_one_of_its_batch(
    pool: Pool, database_url: str, tmp_path: Path, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = sorted((command("a"), command("b")), key=lambda run: run.attempt_id)

    def failing(attempt: Attempt, *given: Any) -> Input:
        if attempt.attempt_id == broken.attempt_id:
            raise ValueError("it cannot be stepped")
        return admission(attempt, *given)

    monkeypatch.setattr("adapter_kit.engine.ledger.admission", failing)
    async with engine_of(pool, database_url, tmp_path, concurrency=1) as engine:
        await eventually(lambda: at_least(lambda: passes.seen, 1))
        await engine.handle(broken, sound)
        await eventually(lambda: submitted(engine, 1))
        assert engine.provider.submitted == [sound.attempt_id]


async def test_the_loop_knows_when_an_attempt_is_due_that_a_batch_has_changed(
    pool: Pool, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.postgres.due_rows.LONGEST_SLEEP_S", 3600)
    async with engine_of(pool, database_url, tmp_path) as engine:
        await engine.handle(command("one"))
        await eventually(lambda: submitted(engine, 1))
        async with engine.outbox.transaction() as transaction:
            soon = transaction.now + timedelta(seconds=0.2)
            attempt = replace(queued_attempt(job_id_for("default", "two"), transaction.now), next_action_at=soon)
            held = ledger.Held(await ledger.create(transaction, [(attempt, None)]))
            await engine.loop.claim_within(transaction, held)
            assert held.attempts[attempt.attempt_id].attempt == attempt
        await eventually(lambda: submitted(engine, 2))


async def test_the_loop_goes_on_after_handlers_took_its_workers_while_it_waited_for_a_connection(
    pool: Pool, database_url: str, tmp_path: Path
) -> None:
    async with engine_of(pool, database_url, tmp_path, concurrency=1) as engine:
        entered, go = asyncio.Barrier(3), asyncio.Event()

        async def claim_when_told(transaction: Transaction, held: Held) -> None:
            await entered.wait()
            await go.wait()
            await engine.loop.claim_within(transaction, held)

        handler = engine.handler_with(claim_when_told)
        async with asyncio.TaskGroup() as handlers:
            for name in ("one", "two"):
                handlers.create_task(handler(batch_of(command(name))))
            await entered.wait()
            taken = [await pool.acquire() for _ in range(pool.get_max_size() - 2)]
            # These two get the connections of the handlers; behind them waits the loop, which has one free worker.
            ahead = [asyncio.ensure_future(pool.acquire()) for _ in range(2)]
            engine.loop.wake()
            await eventually(lambda: waiting_for_a_connection(pool, 3))
            go.set()
        for connection in (*taken, *await asyncio.gather(*ahead)):
            await pool.release(connection)
        engine.provider.answers.set()
        await engine.handle(command("three"))
        await eventually(lambda: submitted(engine, 3))


async def waiting_for_a_connection(pool: Pool, count: int) -> bool:
    return len(cast("Any", pool)._queue._getters) == count


async def test_a_callback_with_the_outputs_leads_to_collecting_without_a_check(engine: Engine) -> None:
    engine.provider.answers.set()
    await engine.handle(command("one"))
    attempt_id = attempt_id_for(job_id_for("default", "one"), 1)
    await eventually(lambda: is_in(engine, attempt_id, "running"))
    # Not due for an hour, so that only the callback can lead to a check.
    await engine.pool.execute("UPDATE attempts SET next_action_at = now() + interval '1 hour'")
    await engine.handle(callback("one", body=f"run-{attempt_id}"))
    assert await state_of(engine.pool, attempt_id) == "collecting"
    assert engine.provider.checks == 0


async def test_a_callback_about_another_run_changes_nothing(engine: Engine) -> None:
    engine.provider.answers.set()
    await engine.handle(command("one"))
    attempt_id = attempt_id_for(job_id_for("default", "one"), 1)
    await eventually(lambda: is_in(engine, attempt_id, "running"))
    await engine.pool.execute("UPDATE attempts SET next_action_at = now() + interval '1 hour'")
    await engine.handle(callback("one", body="run-of-another"))
    assert await state_of(engine.pool, attempt_id) == "running"


async def test_a_cancel_in_the_batch_of_its_command_is_in_time(engine: Engine) -> None:
    run = command("one")
    await engine.handle(run, cancel_of(run))
    assert await state_of(engine.pool, run.attempt_id) == "cancelled"
    await engine.handle(command("two"))
    await eventually(lambda: submitted(engine, 1))
    assert run.attempt_id not in engine.provider.submitted


async def test_a_cancel_meets_the_attempt_that_another_replica_creates_meanwhile(engine: Engine) -> None:
    run = command("one")
    async with engine.outbox.transaction() as other:
        attempt = queued_attempt(run.job_id, other.now)
        assert list(await ledger.create(other, [(attempt, None)])) == [run.attempt_id]
        handled = asyncio.create_task(engine.handle(run, cancel_of(run)))
        await eventually(lambda: waits_for_a_lock(engine.pool))
    await handled
    assert await state_of(engine.pool, run.attempt_id) == "cancelled"
    assert engine.provider.submitted == []


async def test_a_callback_and_a_cancel_of_one_batch_both_count(engine: Engine) -> None:
    engine.provider.answers.set()
    await engine.handle(run := command("one"))
    await eventually(lambda: is_in(engine, run.attempt_id, "running"))
    await engine.handle(cancel_of(run), callback("one", body=f"run-{run.attempt_id}"))
    row = await engine.pool.fetchrow("SELECT called_back, cancel_reason FROM attempts")
    assert row is not None
    assert tuple(row) == (True, "client")


@pytest.mark.parametrize("later", ["callback", "cancel"])
async def test_a_batch_that_waits_for_an_attempt_steps_it_from_the_version_that_it_waited_for(
    engine: Engine, later: str
) -> None:
    engine.provider.answers.set()
    await engine.handle(run := command("one"))
    await eventually(lambda: is_in(engine, run.attempt_id, "running"))
    # Not due for an hour, so that the loop leaves it alone.
    await engine.pool.execute("UPDATE attempts SET next_action_at = now() + interval '1 hour'")
    called_back = callback("one", body=f"run-{run.attempt_id}")
    message: CallbackReceived | CancelAttempt = called_back
    first: Input = CancelWanted("client")
    if later == "cancel":
        message, first = cancel_of(run), CalledBack(ProviderRef(called_back.body, {}))
    seen: list[tuple[bool, str | None]] = []

    async def look(transaction: Transaction, held: Held) -> None:
        attempt = held.attempts[run.attempt_id].attempt
        seen.append((attempt.called_back, attempt.state.cancel_reason))

    async with engine.outbox.transaction(opening=ledger.opening([run.attempt_id])) as other:
        handled = asyncio.create_task(engine.handler_with(look)(batch_of(message)))
        await eventually(lambda: waits_for_a_lock(engine.pool))
        await ledger.apply(other, [(run.attempt_id, first)], ledger.opened(other))
    await handled
    assert seen == [(True, "client")]


async def test_a_breaker_records_each_change_of_a_batch_that_claims_once(engine: Engine) -> None:
    await engine.handle(one := command("one"))
    await eventually(lambda: submitted(engine, 1))

    async def claim_after_a_failure(transaction: Transaction, held: Held) -> None:
        await ledger.advance(transaction, held, [(one.attempt_id, SubmitAnswered(1, Unclear("reset")))])
        await engine.loop.claim_within(transaction, held)

    await engine.handler_with(claim_after_a_failure)(batch_of(two := command("two")))
    assert await state_of(engine.pool, two.attempt_id) == "submitting"
    failures = await engine.pool.fetchval("SELECT failures FROM breakers WHERE scope = $1", one.endpoint)
    assert failures == 1


async def test_an_attempt_that_was_created_is_the_one_that_is_read(engine: Engine) -> None:
    arguments: dict[str, Any] = {"text": "é €", "b": [1.0, 0.1, 1e21, None], "a": {"z": True, "y": 7}}
    async with engine.outbox.transaction() as transaction:
        attempt = replace(queued_attempt(job_id_for("default", "one"), transaction.now), arguments=arguments)
        made = await ledger.create(transaction, [(attempt, "trace"), (replace(attempt, version=9), "later")])
        assert made[attempt.attempt_id].attempt == attempt
        assert await ledger.create(transaction, [(attempt, "trace")]) == {}
    async with engine.outbox.transaction(opening=ledger.opening([attempt.attempt_id])) as transaction:
        [read] = ledger.opened(transaction).attempts.values()
    assert (read.attempt, read.traceparent) == (attempt, "trace")


async def test_the_owner_of_a_run_is_known_before_it_is_written(engine: Engine) -> None:
    engine.provider.answers.set()
    await engine.handle(run := command("one"))
    await eventually(lambda: is_in(engine, run.attempt_id, "running"))
    ref, unknown = (ProviderRef(name, {}) for name in (f"run-{run.attempt_id}", "run-of-nobody"))
    async with engine.outbox.transaction(opening=ledger.opening([run.attempt_id])) as transaction:
        held = ledger.opened(transaction)
        await transaction.connection.execute("UPDATE attempts SET provider_ref = NULL")
        assert await ledger.owners(transaction, held, [ref, unknown]) == {ref.request_id: run.attempt_id}
        assert await ledger.owners(transaction, ledger.Held(), [ref, unknown]) == {}


async def test_a_command_that_is_read_late_waits_for_the_cancel_behind_it(engine: Engine) -> None:
    run = late_command("late")
    await engine.handle(run)
    await eventually(lambda: asked(engine, 3))
    assert (engine.provider.states, await state_of(engine.pool, run.attempt_id)) == ([], "queued")
    await engine.handle(cancel_of(run))
    assert await state_of(engine.pool, run.attempt_id) == "cancelled"
    engine.progress.read = True
    fresh = command("fresh")
    await engine.handle(fresh)
    await eventually(lambda: submitted(engine, 1))
    assert (len(engine.provider.states), await state_of(engine.pool, fresh.attempt_id)) == (1, "submitting")


async def test_a_command_that_is_read_late_is_sent_once_what_is_behind_it_has_been_read(engine: Engine) -> None:
    run = late_command("late")
    await engine.handle(run)
    await eventually(lambda: asked(engine, 1))
    assert engine.provider.states == []
    engine.progress.read = True
    await eventually(lambda: submitted(engine, 1))
    assert await state_of(engine.pool, run.attempt_id) == "submitting"


async def test_it_is_not_asked_how_far_commands_are_read_that_are_read_in_time(engine: Engine) -> None:
    await engine.handle(command("in time"))
    await eventually(lambda: submitted(engine, 1))
    assert engine.progress.asked == 0


async def test_a_command_that_is_read_late_is_held_by_the_next_process_too(
    pool: Pool, database_url: str, tmp_path: Path
) -> None:
    run = late_command("late")
    async with engine_of(pool, database_url, tmp_path) as first:
        await first.handle(run)
        await eventually(lambda: asked(first, 1))
    async with engine_of(pool, database_url, tmp_path) as second:
        await eventually(lambda: asked(second, 1))
        assert second.provider.states == []
        await second.handle(cancel_of(run))
        assert await state_of(pool, run.attempt_id) == "cancelled"


async def waits_for_a_lock(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))


async def submitted(engine: Engine, times: int) -> bool:
    return len(engine.provider.states) >= times


async def is_in(engine: Engine, attempt_id: AttemptId, state: str) -> bool:
    return await state_of(engine.pool, attempt_id) == state


async def state_of(pool: Pool, attempt_id: AttemptId) -> str | None:
    state: str | None = await pool.fetchval("SELECT state FROM attempts WHERE attempt_id = $1", attempt_id)
    return state


def command(name: str) -> RunAttempt:
    attempt = queued_attempt(job_id_for("default", name), datetime.now(UTC))
    return RunAttempt(
        job_id=attempt.job_id,
        occurred_at=attempt.created_at,
        attempt_id=attempt.attempt_id,
        provider=attempt.provider,
        track_id=attempt.track_id,
        n=attempt.n,
        model=attempt.model,
        endpoint=attempt.endpoint,
        arguments=dict(attempt.arguments),
        modality=attempt.modality,
        start_within_s=attempt.start_within_s,
        run_within_s=attempt.run_within_s,
        deadline_at=attempt.created_at + timedelta(minutes=30),
    )


def late_command(name: str) -> RunAttempt:
    """A command that was given a moment longer ago than the orchestrator may take to end its job."""
    given_at = datetime.now(UTC) - timedelta(seconds=READ_LATE_S + 1)
    return command(name).model_copy(update={"occurred_at": given_at})


def cancel_of(run: RunAttempt) -> CancelAttempt:
    at = datetime.now(UTC)
    return CancelAttempt(
        job_id=run.job_id, occurred_at=at, attempt_id=run.attempt_id, provider=run.provider, reason="client"
    )


async def asked(engine: Engine, times: int) -> bool:
    return engine.progress.asked >= times


def callback(name: str, body: str) -> CallbackReceived:
    job_id = job_id_for("default", name)
    return CallbackReceived(
        job_id=job_id,
        occurred_at=datetime.now(UTC),
        attempt_id=attempt_id_for(job_id, 1),
        provider="fal",
        delivery_id="1",
        body=body,
    )


def batch_of(*messages: RunAttempt | CancelAttempt | CallbackReceived) -> Sequence[Any]:
    return [SimpleNamespace(message=message, traceparent=None) for message in messages]
