"""The claim loop: claims due attempts in the ledger, performs the action of each, and writes the outcome.

Rows can be claimed once they are due. The claim loop sleeps until the next row is due, or until a handler in this
process wakes it. It claims at most as many rows as it has free workers, and renews its leases while actions are in
progress. The process may die at any point: the leases expire, and the rows become due again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic
from typing import Final

import structlog

from adapter_kit.attempt.actions import Action, Collect
from adapter_kit.attempt.inputs import CollectFailed, Input
from adapter_kit.attempt.model import HELD_UP_S, LEASE_S
from adapter_kit.breaker.store import BreakerStore
from adapter_kit.engine import ledger
from adapter_kit.engine.executor import ActionExecutor
from adapter_kit.engine.ledger import Held, Stepped
from adapter_kit.engine.outcome_writer import OutcomeWriter
from adapter_kit.engine.rows import RENEW
from adapter_kit.engine.telemetry import report_end
from adapter_kit.late_commands import LateCommands
from adapter_kit.log_events import LedgerEvent
from adapter_kit.metrics import CALLS_IN_FLIGHT
from adapter_kit.port.outcomes import Failure
from chassis.kafka.outbox import Outbox, Transaction
from chassis.observability.logs import get_logger
from chassis.observability.telemetry import trace_id_of
from chassis.postgres.due_rows import Claimed, DueRows
from chassis.postgres.limits import LOOP_LIMIT_S, bounded
from chassis.postgres.pool import TRANSIENT, Pool
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime
from contracts.failures import FailureKind
from contracts.ids import AttemptId
from contracts.messages.attempts import AttemptState

RENEW_S: Final = LEASE_S / 4

Lease = tuple[AttemptId, AttemptState]
"""A lease: the attempt, and the state in which it was claimed."""


class ClaimLoop:
    """Processes the attempts of one provider; any number of replicas may run."""

    def __init__(
        self,
        executor: ActionExecutor,
        writer: OutcomeWriter,
        outbox: Outbox,
        pool: Pool,
        runtime: Runtime,
        *,
        concurrency: int,
        breakers: BreakerStore,
        late_commands: LateCommands,
    ) -> None:
        self._executor = executor
        self._writer = writer
        self._outbox = outbox
        self._pool = pool
        self._runtime = runtime
        self._free = concurrency
        self._breakers = breakers
        self._late_commands = late_commands
        self._held: dict[Lease, float] = {}
        self._collecting: set[asyncio.Task[Input]] = set()
        self._due = DueRows(runtime, "the claim loop")
        self._behind = False
        """Some attempts may be due for which no worker was free."""
        self._left = 0
        """How many transactions of handlers have left due attempts to the loop."""
        self._closing = False
        self._log = get_logger("adapter_kit.engine.claim_loop")

    def wake(self) -> None:
        """Claim now: rows have become due."""
        self._due.wake()

    async def claim_within(self, transaction: Transaction, held: Held) -> None:
        """Claim what is due of the attempts that the transaction holds; their actions start after its commit.

        Concurrent transactions may each claim up to the number of free workers, so that it can be exceeded.
        """
        transaction.after_commit(partial(self._wake_for_later, held))
        limit = self._free
        # The loop claims older ones first, or, after a transaction that took too long to be followed by a POST, anew.
        if limit <= 0 or self._behind or monotonic() - transaction.began > HELD_UP_S:
            transaction.after_commit(self._leave_to_loop)
            return
        claimed, more = await ledger.claim_held(transaction, held, limit, self._breakers, self._late_commands.holds)
        transaction.after_commit(partial(self._start, claimed, transaction.began))
        if more:
            transaction.after_commit(self._leave_to_loop)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the loop within the block. On exit, wait for actions in progress; downloads are interrupted."""
        async with (
            background(self._runtime, "the outcome writer", self._writer.run()),
            background(self._runtime, "the lease renewer", self._renew_forever()),
            self._late_commands.running(self.wake),
            asyncio.TaskGroup() as self._calls,
        ):
            try:
                async with self._due.running(self._claim):
                    yield
            finally:
                self._closing = True
                for task in self._collecting:
                    task.cancel()

    async def _claim(self) -> Claimed:
        # Handlers claim too while this transaction waits for a connection: the limit is that of its beginning.
        limit = self._free
        if limit <= 0:
            return Claimed(some=False, next_s=None)  # A worker that becomes free wakes the loop.
        async with self._outbox.transaction(LOOP_LIMIT_S) as transaction:
            left = self._left
            claimed = await ledger.claim(transaction, limit, self._breakers, self._late_commands.holds)
            # This pass may not have seen what handlers have committed and left to the loop since it began.
            self._behind = len(claimed) == limit or self._left != left
            next_s = 0.0 if self._behind else await ledger.seconds_to_next(transaction)
        self._start(claimed, transaction.began)
        return Claimed(some=bool(claimed), next_s=next_s)

    def _start(self, claimed: Sequence[Stepped], began: float) -> None:
        """Start the actions of the claimed attempts; their leases last from `began` on (monotonic seconds)."""
        for stepped in claimed:
            self._report_if_ended(stepped)
            if stepped.action is not None:
                self._free -= 1
                self._held[_lease(stepped)] = began
                self._calls.create_task(self._drive(stepped))
            self._wake_for(stepped)
        CALLS_IN_FLIGHT.set(len(self._held))

    def _leave_to_loop(self) -> None:
        # After the commit, since a worker that became free before it has woken the loop in vain: it saw no such row.
        self._left += 1
        self._behind = True
        self._due.wake()

    def _wake_for_later(self, held: Held) -> None:
        for each in held.attempts.values():
            if each.due_in_s is not None and each.due_in_s > 0:
                self._wake_for(each)

    def _wake_for(self, stepped: Stepped) -> None:
        if stepped.due_in_s is not None:
            self._due.wake_within(stepped.due_in_s)

    async def _drive(self, stepped: Stepped) -> None:
        """Perform the action, write its outcome, and repeat while that leads to another action."""
        current: Stepped | None = stepped
        with structlog.contextvars.bound_contextvars(**_log_context(stepped)):
            try:
                while current is not None and current.action is not None:
                    current = await self._step(current, current.action)
            except Exception:  # noqa: BLE001 - the lease expires, and the row is due again for any replica
                self._log.exception(LedgerEvent.ATTEMPT_WORKER_FAILED)
            finally:
                self._free += 1
                if self._free == 1:
                    self._due.wake()  # There may be more that is due than there were free calls for.

    async def _step(self, current: Stepped, action: Action) -> Stepped | None:
        lease = _lease(current)
        self._held.setdefault(lease, monotonic())
        try:
            input_ = await self._act(current, action)
            after = await self._writer.settle(current.attempt.attempt_id, input_)
        finally:
            self._held.pop(lease, None)
        if after is not None:
            self._executor.learn(after.attempt, input_)
            self._report_if_ended(after)
            self._wake_for(after)
        return after

    async def _act(self, current: Stepped, action: Action) -> Input:
        lease = _lease(current)
        call = self._executor.perform(current.attempt, action, current.traceparent, lambda: self._held.get(lease, 0.0))
        if not isinstance(action, Collect):
            return await call
        task = asyncio.create_task(call)
        self._collecting.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if not self._closing:
                raise
            # A restart is our own failure: even at the end of the fetching window no other provider is paid for it.
            interrupted = Failure(FailureKind.STORE_FAILED, "the download was interrupted by a restart")
            return CollectFailed(interrupted, final=False, asked_at=action.asked_at)
        finally:
            self._collecting.discard(task)

    def _report_if_ended(self, stepped: Stepped) -> None:
        if stepped.ended:
            report_end(stepped.attempt, stepped.traceparent, self._runtime.telemetry)

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)  # Cancelled when the last call has ended.
            if not self._held:
                continue
            before = monotonic()
            try:
                kept = await _renewed(self._pool, list(self._held))
            except TRANSIENT as error:
                self._log.warning(LedgerEvent.LEASES_NOT_RENEWED, error=repr(error))
                continue
            self._held.update({lease: before for lease in kept if lease in self._held})


async def _renewed(pool: Pool, held: Sequence[Lease]) -> frozenset[Lease]:
    """Renew the leases for another `LEASE_S` seconds. Returns those renewed; the others are lost.

    A lease is bound to the state: the worker of a POST loses it when a callback changes the state of the attempt.
    """
    ids, states = [attempt_id for attempt_id, _ in held], [state for _, state in held]
    # A failed renewal must leave time for another before the leases expire.
    async with bounded(pool, LEASE_S / 3) as connection:
        rows = await connection.fetch(RENEW, ids, LEASE_S, states)
    return frozenset((AttemptId(row["attempt_id"]), row["state"]) for row in rows)


def _lease(stepped: Stepped) -> Lease:
    return stepped.attempt.attempt_id, stepped.attempt.state.name


def _log_context(stepped: Stepped) -> dict[str, object]:
    attempt = stepped.attempt
    return {
        "job_id": attempt.job_id,
        "track_id": attempt.track_id,
        "attempt": attempt.n,
        "provider": attempt.provider,
        "trace_id": trace_id_of(stepped.traceparent),
    }
