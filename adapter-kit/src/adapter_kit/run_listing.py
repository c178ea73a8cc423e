"""The run listing: reads the provider's list of runs in the place of many status requests.

A hundred runs are on one page. A run that the list shows as ended becomes due at once, and its status is requested. A
run that goes on is not due for some seconds, which the next pass extends, up to the column `check_by`. Any other run
stays due as it is. So a list that fails, or is wrong, delays the end of a run until `check_by` at most, and changes no
state.

A pass after one that was useful postpones the runs that are due soon before it reads the list, so that they are not
requested singly meanwhile; those that the list then does not show as going on are due at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Final

from adapter_kit.log_events import AttemptEvent, LedgerEvent
from adapter_kit.port.provider import ListedRun, Provider, Stage
from chassis.observability.logs import get_logger
from chassis.postgres.limits import LOOP_LIMIT_S, advisory_lock, bounded
from chassis.postgres.pool import TRANSIENT, Pool
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime
from contracts.ids import AttemptId

MANY: Final = 50
"""The list is read for at least so many runs; a page costs as much as several status requests."""
MOST_RUNS: Final = 20_000
"""Limit of the runs of a pass; those that are due first are taken."""
LOOK_EVERY_S: Final = 1.0
"""Shortest interval between two passes, and between two counts of the runs, in seconds."""
USELESS_S: Final = 4.0
"""Pause in seconds after a pass that learned little: the list is unavailable, shows no runs that go on, or is full of
runs that were made meanwhile. It is twice as long after each further one, up to `LONGEST_USELESS_S`."""
LONGEST_USELESS_S: Final = 60.0
USEFUL_SHARE: Final = 0.1
POSTPONED_S: Final = 30.0
"""Seconds for which a run that goes on is not due: as long as between two requests while callbacks arrive."""
EXTENDED_S: Final = 20.0
"""A run is postponed again if it is due within so many seconds, so that few rows change in a pass."""
LIST_LIMIT_S: Final = 60.0
ROWS_AT_ONCE: Final = 2_000

_COUNT: Final = """
SELECT count(*) FROM (
    SELECT FROM attempts WHERE next_action_at < now() + make_interval(secs => $1) AND state = 'running'
    AND check_by > now() LIMIT $2
) AS runs
"""
_RUNS: Final = """
SELECT attempt_id, provider_ref, accepted_at, started, next_action_at,
    extract(epoch FROM next_action_at - now())::float8 AS due_in_s
FROM attempts WHERE next_action_at < now() + make_interval(secs => $1) AND state = 'running' AND check_by > now()
ORDER BY next_action_at LIMIT $2
"""
_MOVE: Final = """
UPDATE attempts SET
    next_action_at = CASE WHEN $3 THEN now()
                          ELSE greatest(next_action_at, least(check_by, now() + make_interval(secs => $4))) END,
    check_by = CASE WHEN NOT $3 THEN check_by END
WHERE attempt_id IN (
    SELECT attempts.attempt_id FROM attempts
    JOIN unnest($1::text[], $2::timestamptz[]) AS seen (attempt_id, next_action_at) USING (attempt_id)
    WHERE state = 'running' AND check_by IS NOT NULL
    AND (attempts.next_action_at = seen.next_action_at) IS TRUE FOR UPDATE OF attempts SKIP LOCKED
)
RETURNING attempt_id, next_action_at
"""
"""Makes rows due now ($3), or postpones them, unless they have changed since they were read.

Thousands of rows are due at one time, so they are found by their ids: a time in this form is looked for in no index.
"""


@dataclass(frozen=True, slots=True)
class _Row:
    attempt_id: AttemptId
    request_id: str
    accepted_at: datetime
    started: bool
    next_action_at: datetime
    due_in_s: float
    held: bool = False
    """Whether this pass has postponed it already."""


class RunListing:
    """Postpones the status requests of runs that go on; one replica at a time reads the list."""

    def __init__(
        self,
        provider: Provider,
        pool: Pool,
        runtime: Runtime,
        *,
        callbacks_arrive: Callable[[], bool],
        wake: Callable[[], None],
    ) -> None:
        """`wake` is called after runs have become due."""
        self._provider = provider
        self._pool = pool
        self._runtime = runtime
        self._callbacks_arrive = callbacks_arrive
        self._wake = wake
        self._not_before = 0.0
        self._useless_s = USELESS_S
        self._log = get_logger("adapter_kit.run_listing")

    def running(self) -> AbstractAsyncContextManager[None]:
        """Make passes for as long as the block lasts."""
        return background(self._runtime, "the run listing", self._run())

    async def _run(self) -> None:
        while await self._runtime.pause(max(LOOK_EVERY_S, self._not_before - monotonic())):
            try:
                if await self._count() < MANY:
                    continue
                async with advisory_lock(self._pool, f"run listing of {self._provider.name}") as ours:
                    pause_s = await self.look() if ours else None
                    while pause_s is not None and await self._runtime.pause(pause_s):
                        pause_s = await self.look(hold=True)
            except TRANSIENT as error:
                self._log.warning(LedgerEvent.RUNS_NOT_POSTPONED, error=repr(error))

    async def look(self, *, hold: bool = False) -> float | None:
        """Make one pass. Returns the seconds until the next; None if there are few runs, or little was learned.

        `hold`: postpone the runs that are due soon before the list is read. Raises the errors of asyncpg.
        """
        began = monotonic()
        rows = await self._rows()
        if len(rows) < MANY:
            return None
        if hold:
            rows = await self._held(rows)
        stages = await self._stages(rows)
        await self._apply(rows, stages)
        if len(stages) < USEFUL_SHARE * len(rows):
            self._not_before = monotonic() + self._useless_s
            self._useless_s = min(2 * self._useless_s, LONGEST_USELESS_S)
            return None
        self._useless_s = USELESS_S
        return max(LOOK_EVERY_S, (monotonic() - began) / 2)

    @property
    def _within_s(self) -> float:
        """Due within how many seconds the runs are that the list is read for."""
        # While callbacks arrive they report an end at once, and the list only has to replace the request that is due.
        return LOOK_EVERY_S if self._callbacks_arrive() else 3_600.0

    async def _count(self) -> int:
        async with bounded(self._pool, LOOP_LIMIT_S) as connection:
            count: int = await connection.fetchval(_COUNT, self._within_s, MANY)
        return count

    async def _rows(self) -> list[_Row]:
        async with bounded(self._pool, LOOP_LIMIT_S) as connection:
            rows = await connection.fetch(_RUNS, self._within_s, MOST_RUNS)
        return [_Row(*row) for row in rows]

    async def _stages(self, rows: Sequence[_Row]) -> Mapping[str, Stage]:
        """What the list says of the runs, by their ids; empty if it cannot be read."""
        runs = [ListedRun(row.request_id, row.accepted_at) for row in rows]
        try:
            async with asyncio.timeout(LIST_LIMIT_S):
                return await self._provider.stages(runs)
        except Exception:  # noqa: BLE001 - the call can be repeated safely after any error
            self._log.exception(AttemptEvent.CALL_RAISED)
            return {}

    async def _held(self, rows: Sequence[_Row]) -> list[_Row]:
        """The rows; those that are due soon are postponed, as far as they have not changed."""
        moved = await self._move([row for row in rows if row.due_in_s < EXTENDED_S], due_now=False)
        return [
            replace(row, next_action_at=moved[row.attempt_id], held=True) if row.attempt_id in moved else row
            for row in rows
        ]

    async def _apply(self, rows: Sequence[_Row], stages: Mapping[str, Stage]) -> None:
        due, going = list[_Row](), list[_Row]()
        for row in rows:
            stage = stages.get(row.request_id)
            if stage == "ended" or (stage == "running" and not row.started) or (stage is None and row.held):
                due.append(row)
            elif stage is not None and not row.held and row.due_in_s < EXTENDED_S:
                going.append(row)
        if await self._move(due, due_now=True):
            self._wake()
        await self._move(going, due_now=False)

    async def _move(self, rows: Sequence[_Row], *, due_now: bool) -> dict[AttemptId, datetime]:
        """When the rows that were moved are due now."""
        moved: dict[AttemptId, datetime] = {}
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            ids, times = [row.attempt_id for row in some], [row.next_action_at for row in some]
            async with bounded(self._pool, LOOP_LIMIT_S) as connection:
                found = await connection.fetch(_MOVE, ids, times, due_now, POSTPONED_S)
            moved |= {row["attempt_id"]: row["next_action_at"] for row in found}
        return moved
