"""The timers: jobs whose deadline or next step is due, each through `decide`, many in one transaction."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Final

from chassis.kafka.outbox import Outbox
from chassis.observability.logs import get_logger
from chassis.postgres.due_rows import Claimed, DueRows
from chassis.postgres.limits import LOOP_LIMIT_S
from chassis.runtime.runtime import Runtime
from contracts.ids import JobId
from orchestrator import store
from orchestrator.decisions.inputs import Due
from orchestrator.handler import apply
from orchestrator.log_events import OrchestratorEvent
from orchestrator.store import Stored

BATCH: Final = 500
PUT_OFF_S: Final = 60.0
_log = get_logger("orchestrator.timers")


class Timers:
    """Decides on jobs when they are due; any number of replicas may run."""

    def __init__(self, outbox: Outbox, runtime: Runtime) -> None:
        self._outbox = outbox
        self._due = DueRows(runtime, "the job timers")

    def wake(self) -> None:
        """Look now for jobs that are due."""
        self._due.wake()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Decide on due jobs for as long as the block lasts."""
        return self._due.running(self.decide_due)

    async def decide_due(self) -> Claimed:
        """Decide on up to 500 jobs that are due; tells whether there were any, and when the next one is due."""
        async with self._outbox.transaction(LOOP_LIMIT_S) as transaction:
            due, unreadable = await store.due(transaction, BATCH)
            changed: dict[JobId, Stored] = {}
            stuck = list(unreadable)
            for job_id, error in unreadable.items():
                _log.error(OrchestratorEvent.JOB_POSTPONED, job_id=job_id, exc_info=error)
            for job_id, known in due.items():
                try:
                    now_job = apply(transaction, known, Due(), known.traceparent)
                except Exception:  # noqa: BLE001 - a job nothing can be decided of must not hold up all others
                    _log.exception(OrchestratorEvent.JOB_POSTPONED, job_id=job_id)
                    stuck.append(job_id)
                    continue
                if now_job is not None:
                    changed[job_id] = now_job
            await store.save(transaction, changed)
            await store.put_off(transaction, stuck, PUT_OFF_S)
            return Claimed(some=bool(due or unreadable), next_s=await store.seconds_to_next(transaction))
