"""The message handler: `decide` for each request and attempt event of a batch, in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from chassis.delivery.consumer import Delivered, arrived_at
from chassis.kafka.outbox import Outbox, Transaction
from chassis.observability.exemplars import exemplar_of
from chassis.observability.logs import get_logger
from chassis.observability.telemetry import Telemetry, trace_id_of
from contracts.catalogue import UnknownModel
from contracts.generation import Modality, Provider
from contracts.ids import JobId
from contracts.messages.attempts import AttemptEvent
from contracts.messages.base import Message
from contracts.messages.jobs import (
    JobAccepted,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRerouted,
    JobStarted,
    JobSucceeded,
)
from contracts.messages.requests import CancelRequested, CollectionRequested, JobRequested, ResolutionRequested
from orchestrator import latency, store
from orchestrator.decisions.after_attempt import WITHOUT_EFFECT
from orchestrator.decisions.attempt_outcomes import newly_known_costs
from orchestrator.decisions.decide import decide
from orchestrator.decisions.decision import Decision
from orchestrator.decisions.inputs import Attempted, CancelAsked, CollectAsked, Input, Requested, ResolveAsked
from orchestrator.decisions.job import Job
from orchestrator.decisions.remaining_candidates import Silent
from orchestrator.log_events import OrchestratorEvent
from orchestrator.metrics import JOB_COST, JOB_SECONDS, JOBS_ENDED, REROUTED
from orchestrator.retention import may_be_purged
from orchestrator.routing.ordering import Latencies
from orchestrator.routing.planning import Routing
from orchestrator.store import Stored

_LOGGED: Final[Mapping[type[JobEvent], OrchestratorEvent]] = {
    JobAccepted: OrchestratorEvent.JOB_ACCEPTED,
    JobStarted: OrchestratorEvent.JOB_STARTED,
    JobSucceeded: OrchestratorEvent.JOB_SUCCEEDED,
    JobCancelled: OrchestratorEvent.JOB_CANCELLED,
}
_log = get_logger("orchestrator.handler")


class JobHandler:
    """Applies requests and attempt events to jobs."""

    def __init__(
        self,
        outbox: Outbox,
        routing: Routing,
        silent: Callable[[], Awaitable[Silent]],
        keep_rows: timedelta,
        wake_timers: Callable[[float], None],
        telemetry: Telemetry,
    ) -> None:
        """`silent` returns the silent adapters. `wake_timers` is called with the seconds until a changed job is due."""
        self._outbox = outbox
        self._routing = routing
        self._silent = silent
        self._keep_rows = keep_rows
        self._wake_timers = wake_timers
        self._telemetry = telemetry

    async def __call__(self, batch: Sequence[Delivered], /) -> None:
        """Process a batch of segue.requests and segue.attempts in one transaction, or none if it can change no job."""
        batch = [delivered for delivered in batch if not isinstance(delivered.message, WITHOUT_EFFECT)]
        if not batch:
            return
        silent = await self._silent()
        job_ids = {delivered.message.job_id for delivered in batch}
        async with self._outbox.transaction(opening=store.opening(job_ids)) as transaction:
            jobs = await store.load(transaction, job_ids)
            latencies = await latency.load(transaction) if any(map(self._needs_latencies, batch)) else {}
            changed: dict[JobId, Stored] = {}
            warnings: dict[OrchestratorEvent, list[JobId]] = {}
            for delivered in batch:
                input_ = self._input_of(delivered, latencies, transaction.now)
                if input_ is None:
                    continue
                job_id = delivered.message.job_id
                known = changed.get(job_id) or jobs.get(job_id)
                if known is None and self._is_expired(input_, transaction.now):
                    warnings.setdefault(OrchestratorEvent.REQUEST_EXPIRED, []).append(job_id)
                    continue
                if _conflicts(known, input_):
                    warnings.setdefault(OrchestratorEvent.IDEMPOTENCY_CONFLICT, []).append(job_id)
                # Attempt events get the context of the job, so that all attempts are siblings in its trace.
                context = known.traceparent if known else delivered.traceparent
                updated = apply(transaction, known, input_, context, silent, self._telemetry)
                if updated is not None:
                    changed[job_id] = updated
            await store.save(transaction, changed, jobs)
            await latency.record(transaction, (delivered.message for delivered in batch))
            due = [each.job.next_action_at for each in changed.values() if each.job.next_action_at is not None]
            if due:
                transaction.after_commit(partial(self._wake_timers, (min(due) - transaction.now).total_seconds()))
            transaction.after_commit(partial(_log_warnings, warnings))

    def _needs_latencies(self, delivered: Delivered) -> bool:
        request = delivered.message
        return isinstance(request, JobRequested) and self._routing.policies.may_go_by_latency(request)

    def _input_of(self, delivered: Delivered, latencies: Latencies, now: datetime) -> Input | None:
        match delivered.message:
            case JobRequested() as request:
                return self._requested(request, arrived_at(delivered.record) or now, latencies)
            case CancelRequested(occurred_at=asked_at):
                return CancelAsked(asked_at)
            case ResolutionRequested() as resolution:
                return ResolveAsked(resolution)
            case CollectionRequested() as collection:
                return CollectAsked(collection)
            case AttemptEvent() as event:
                return Attempted(event)
            case _:
                return None

    def _is_expired(self, input_: Input, now: datetime) -> bool:
        return isinstance(input_, Requested) and may_be_purged(input_.request, now, self._keep_rows)

    def _requested(self, request: JobRequested, arrived_at: datetime, latencies: Latencies) -> Requested:
        try:
            plan = self._routing.plan(request, latencies)
        except UnknownModel as error:
            return Requested(request, (), (), str(error), arrived_at)
        return Requested(request, plan.candidates, plan.skipped, None, arrived_at, plan.because, plan.max_cost_usd)


def apply(
    transaction: Transaction,
    known: Stored | None,
    input_: Input,
    context: str | None,
    silent: Silent,
    telemetry: Telemetry,
) -> Stored | None:
    """Decide on one input and emit the resulting messages; returns the job to save, None if it has not changed."""
    before = known.job if known else None
    decision: Decision = decide(before, input_, transaction.now, silent)
    for message in decision.messages:
        transaction.emit(message, context)
        transaction.after_commit(_Report(message, decision.job, context, telemetry))
    if decision.job is None or decision.job == before:
        return None
    if costs := newly_known_costs(before, decision.job):
        transaction.after_commit(partial(_count_costs, decision.job.candidate.modality, costs))
    return Stored(decision.job, context)


def _conflicts(known: Stored | None, input_: Input) -> bool:
    # Two gateways accepted the same key for different bodies at the same time; the first request in the log counts.
    return known is not None and isinstance(input_, Requested) and known.job.fingerprint != input_.request.fingerprint


def _log_warnings(warnings: Mapping[OrchestratorEvent, Sequence[JobId]]) -> None:
    """Log one line for each kind, with the number of jobs: a batch may contain any number of such requests."""
    for event, job_ids in warnings.items():
        _log.warning(event, count=len(job_ids), job_id=job_ids[0])


def _count_costs(modality: Modality, costs: Mapping[Provider, float]) -> None:
    for provider, cost_usd in costs.items():
        JOB_COST.labels(provider, modality).inc(cost_usd)


class _Report:
    """Logs and counts a message; called after the commit."""

    def __init__(self, message: Message, job: Job | None, context: str | None, telemetry: Telemetry) -> None:
        self._message = message
        self._job = job
        self._context = context
        self._telemetry = telemetry

    def __call__(self) -> None:
        if not isinstance(self._message, JobEvent):
            return
        log = _log.bind(
            job_id=self._message.job_id, track_id=self._message.track_id, trace_id=trace_id_of(self._context)
        )
        match self._message:
            case JobRerouted() as rerouted:
                REROUTED.labels(rerouted.from_provider, rerouted.to_provider, rerouted.kind.value).inc()
                log.info(
                    OrchestratorEvent.JOB_REROUTED,
                    provider=rerouted.to_provider,
                    kind=rerouted.kind,
                    message=rerouted.message,
                )
            case JobFailed() as failed:
                self._count_end("failed", failed.kind.value)
                log.info(OrchestratorEvent.JOB_FAILED, kind=failed.kind, message=failed.message)
            case event:
                log.info(_LOGGED[type(event)], status=event.status)
                if event.status in ("succeeded", "cancelled"):
                    self._count_end(event.status, "")

    def _count_end(self, status: str, kind: str) -> None:
        JOBS_ENDED.labels(status, kind).inc()
        if self._job is not None:
            seconds = (self._message.occurred_at - self._job.created_at).total_seconds()
            JOB_SECONDS.labels(status).observe(max(0.0, seconds), exemplar_of(self._telemetry, self._context))
