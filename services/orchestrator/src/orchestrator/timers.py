"""The job timers: `decide` for jobs whose deadline or next action is due, many in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import Final

from chassis.kafka.outbox import Outbox
from chassis.observability.logs import get_logger
from chassis.postgres.due_rows import Claimed, DueRows
from chassis.postgres.limits import LOOP_LIMIT_S
from chassis.runtime.runtime import Runtime
from contracts.ids import JobId
from orchestrator import store
from orchestrator.decisions.inputs import Due
from orchestrator.decisions.remaining_candidates import Silent
from orchestrator.handler import apply
from orchestrator.log_events import OrchestratorEvent
from orchestrator.store import Stored

BATCH: Final = 500
POSTPONE_S: Final = 60.0
"""Seconds until a job about which no decision can be made is tried again."""
READING_S: Final = 15.0
"""Seconds after its start in which a process reads what was in Kafka, and ends no job for want of a report."""
_log = get_logger("orchestrator.timers")


class Timers:
    """Decides on jobs when they are due; any number of replicas can run at the same time."""

    def __init__(self, outbox: Outbox, silent: Callable[[], Awaitable[Silent]], runtime: Runtime) -> None:
        """`silent` returns the silent adapters."""
        self._outbox = outbox
        self._silent = silent
        self._telemetry = runtime.telemetry
        self._due = DueRows(runtime, "the job timers")
        self._reading_until = monotonic() + READING_S

    def wake(self) -> None:
        """Start the next pass now."""
        self._due.wake()

    def wake_within(self, seconds: float) -> None:
        """Start the next pass within `seconds`."""
        self._due.wake_within(seconds)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Decide on due jobs for as long as the block lasts."""
        return self._due.running(self.decide_due)

    async def decide_due(self) -> Claimed:
        """Decide on up to BATCH due jobs; returns whether there were any, and the seconds until the next one is due."""
        silent = await self._silent()
        async with self._outbox.transaction(LOOP_LIMIT_S) as transaction:
            due, unreadable = await store.due(transaction, BATCH)
            changed: dict[JobId, Stored] = {}
            undecided = list(unreadable)
            input_ = Due(reports_read=monotonic() >= self._reading_until)
            for job_id, error in unreadable.items():
                _log.error(OrchestratorEvent.JOB_POSTPONED, job_id=job_id, exc_info=error)
            for job_id, known in due.items():
                try:
                    updated = apply(transaction, known, input_, known.traceparent, silent, self._telemetry)
                except Exception:  # noqa: BLE001 - a job about which no decision can be made must not block the others
                    _log.exception(OrchestratorEvent.JOB_POSTPONED, job_id=job_id)
                    undecided.append(job_id)
                    continue
                if updated is not None:
                    changed[job_id] = updated
            await store.save(transaction, changed, due)
            await store.reschedule(transaction, undecided, POSTPONE_S)
            return Claimed(some=bool(due or unreadable), next_s=await store.seconds_to_next(transaction))
