"""The handler: batches of requests and attempt events, and the timers, each through `decide` into one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Final

from chassis.delivery.consumer import Delivered, arrived_at
from chassis.kafka.outbox import Outbox, Transaction
from chassis.observability.logs import get_logger
from chassis.observability.telemetry import trace_id_of
from chassis.postgres.limits import LOOP_LIMIT_S
from chassis.postgres.pool import TRANSIENT
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime
from contracts.catalogue import UnknownModel
from contracts.ids import JobId
from contracts.messages.attempts import AttemptEvent
from contracts.messages.base import Message
from contracts.messages.jobs import JobEvent, JobFailed, JobRerouted
from contracts.messages.requests import CancelRequested, CollectionRequested, JobRequested, ResolutionRequested
from orchestrator import latency, store
from orchestrator.decisions.decide import decide
from orchestrator.decisions.decision import Decision
from orchestrator.decisions.inputs import Attempted, CancelAsked, CollectAsked, Due, Input, Requested, Ruled
from orchestrator.metrics import JOBS_ENDED, REROUTED
from orchestrator.retention import may_be_purged
from orchestrator.routing.ordering import Paces
from orchestrator.routing.planning import Routing
from orchestrator.store import Stored

TIMER_BATCH: Final = 500
LONGEST_SLEEP_S: Final = 5.0
LOCKED_S: Final = 0.1
PUT_OFF_S: Final = 60.0
STALL_S: Final = 60.0
LEFT_ALONE: Final = "requests from before all jobs that are kept; they are left alone"
CONFLICT: Final = "the same idempotency key came with another body; the first one stands"
_log = get_logger("orchestrator.handler")


class Flow:
    """Applies decisions to jobs."""

    def __init__(self, outbox: Outbox, routing: Routing, runtime: Runtime, keep_rows: timedelta) -> None:
        self._outbox = outbox
        self._routing = routing
        self._runtime = runtime
        self._keep_rows = keep_rows
        self._wake = asyncio.Event()
        self._turned_at = monotonic()

    async def __call__(self, batch: Sequence[Delivered], /) -> None:
        """Handle a batch of segue.requests and segue.attempts in one transaction."""
        async with self._outbox.transaction() as transaction:
            jobs = await store.load(transaction, (delivered.message.job_id for delivered in batch))
            asked = any(isinstance(delivered.message, JobRequested) for delivered in batch)
            paces = await latency.paces(transaction) if asked else {}
            changed: dict[JobId, Stored] = {}
            odd: dict[str, list[JobId]] = {}
            for delivered in batch:
                input_ = self._input_of(delivered, paces, transaction.now)
                if input_ is None:
                    continue
                job_id = delivered.message.job_id
                # An attempt's events come under the job's own context, so that attempts are siblings in its trace.
                known = changed.get(job_id) or jobs.get(job_id)
                if known is None and self._is_over(input_, transaction.now):
                    odd.setdefault(LEFT_ALONE, []).append(job_id)
                    continue
                if _conflicts(known, input_):
                    odd.setdefault(CONFLICT, []).append(job_id)
                context = known.traceparent if known else delivered.traceparent
                now_job = self._apply(transaction, known, input_, context)
                if now_job is not None:
                    changed[job_id] = now_job
            await store.save(transaction, changed)
            await latency.learn(transaction, (delivered.message for delivered in batch))
            transaction.after_commit(self._wake.set)
            transaction.after_commit(partial(_warn_of, odd))

    @asynccontextmanager
    async def timers(self) -> AsyncIterator[None]:
        """Watch the deadlines for as long as the block lasts."""
        self._runtime.must_live(self._stalled)
        async with background(self._runtime, "the deadline watch", self._watch_deadlines()):
            yield

    def _input_of(self, delivered: Delivered, paces: Paces, now: datetime) -> Input | None:
        match delivered.message:
            case JobRequested() as request:
                return self._requested(request, arrived_at(delivered.record) or now, paces)
            case CancelRequested():
                return CancelAsked()
            case ResolutionRequested() as verdict:
                return Ruled(verdict)
            case CollectionRequested() as wanted:
                return CollectAsked(wanted)
            case AttemptEvent() as event:
                return Attempted(event)
            case _:
                return None

    def _is_over(self, input_: Input, now: datetime) -> bool:
        return isinstance(input_, Requested) and may_be_purged(input_.request, now, self._keep_rows)

    def _requested(self, request: JobRequested, arrived_at: datetime, paces: Paces) -> Requested:
        try:
            plan = self._routing.plan(request, paces)
        except UnknownModel as error:
            return Requested(request, (), (), str(error), arrived_at)
        return Requested(request, plan.candidates, plan.skipped, None, arrived_at, plan.because, plan.max_cost_usd)

    def _apply(
        self, transaction: Transaction, known: Stored | None, input_: Input, context: str | None
    ) -> Stored | None:
        before = known.job if known else None
        decision: Decision = decide(before, input_, transaction.now)
        for message in decision.messages:
            transaction.emit(message, context)
            transaction.after_commit(_Telling(message, context))
        if decision.job is None or decision.job == before:
            return None
        return Stored(decision.job, context)

    async def _watch_deadlines(self) -> None:
        while not self._runtime.stopping.is_set():
            self._wake.clear()
            self._turned_at = monotonic()
            try:
                sleep_s = await self._due_once()
            except TRANSIENT as error:
                _log.warning("the deadline watch waits for the database", error=repr(error))
                sleep_s = 1.0
            await self._sleep(sleep_s)

    async def _due_once(self) -> float:
        async with self._outbox.transaction(LOOP_LIMIT_S) as transaction:
            due = await store.due(transaction, TIMER_BATCH)
            changed: dict[JobId, Stored] = {}
            stuck: list[JobId] = []
            for job_id, known in due.items():
                try:
                    now_job = self._apply(transaction, known, Due(), known.traceparent)
                except Exception:  # noqa: BLE001 - a job nothing can be decided of must not hold up all others
                    _log.exception("no decision can be made of a job; it is put off", job_id=job_id)
                    stuck.append(job_id)
                    continue
                if now_job is not None:
                    changed[job_id] = now_job
            await store.save(transaction, changed)
            await store.put_off(transaction, stuck, PUT_OFF_S)
            next_s = await store.seconds_to_next(transaction)
        # What is due and was not found is locked by somebody: no reason to ask for it without a pause.
        floor_s = 0.0 if due else LOCKED_S
        return LONGEST_SLEEP_S if next_s is None else min(LONGEST_SLEEP_S, max(floor_s, next_s))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _stalled(self) -> str | None:
        idle_s = monotonic() - self._turned_at
        return f"the deadline watch has not turned for {idle_s:.0f} s" if idle_s > STALL_S else None


def _conflicts(known: Stored | None, input_: Input) -> bool:
    # Two replicas took the same key for different bodies in the same moment; the first in the log is the job.
    return known is not None and isinstance(input_, Requested) and known.job.fingerprint != input_.request.fingerprint


def _warn_of(odd: Mapping[str, Sequence[JobId]]) -> None:
    """One line for each kind, however many there are: whoever can write to the topic can write a million."""
    for what, job_ids in odd.items():
        _log.warning(what, count=len(job_ids), job_id=job_ids[0])


class _Telling:
    """Logs and counts a message once it is certain, that is, committed."""

    def __init__(self, message: Message, context: str | None) -> None:
        self._message = message
        self._context = context

    def __call__(self) -> None:
        match self._message:
            case JobRerouted() as rerouted:
                REROUTED.labels(rerouted.from_provider, rerouted.to_provider, rerouted.kind.value).inc()
                self._say("rerouted", provider=rerouted.to_provider, kind=rerouted.kind, message=rerouted.message)
            case JobFailed() as failed:
                JOBS_ENDED.labels("failed", failed.kind.value).inc()
                self._say("failed", kind=failed.kind, message=failed.message)
            case JobEvent() as event:
                self._say(event.TYPE.split(".")[2], status=event.status)
                if event.status in ("succeeded", "cancelled"):
                    JOBS_ENDED.labels(event.status, "").inc()
            case _:
                return

    def _say(self, what: str, **said: object) -> None:
        track_id = getattr(self._message, "track_id", None)
        trace_id = trace_id_of(self._context)
        _log.info(f"job {what}", job_id=self._message.job_id, track_id=track_id, trace_id=trace_id, **said)
