"""The reconciler: searches the provider's listing for the runs of lost submits, for many submits in one pass.

Responses are usually lost in large numbers. If each submit read the whole listing, the provider would throttle the
reads. Submits that are lost during a pass are searched for by the next one, so that a single one is not delayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Final, Protocol

from adapter_kit import twins
from adapter_kit.attempt.model import Attempt
from adapter_kit.log_events import AttemptEvent
from adapter_kit.port.listing import CLOCK_SKEW, WALK_S, without_answer
from adapter_kit.port.outcomes import FindOutcome, Found, NoAnswer, NotFound
from adapter_kit.port.provider import LostSubmission, Provider
from chassis.observability.logs import get_logger
from chassis.postgres.limits import LOOP_LIMIT_S, bounded
from chassis.postgres.pool import Pool
from contracts.ids import AttemptId

TAKEN_SLACK: Final = 2 * CLOCK_SKEW
SEARCH_LIMIT_S: Final = 2 * WALK_S + 20
"""Time limit of a search in seconds: the pass in progress, its own pass, and some seconds for the database."""

_log = get_logger("adapter_kit.engine.reconciler")
_TAKEN: Final = "SELECT provider_ref FROM attempts WHERE provider_ref IS NOT NULL AND updated_at > $1"
_OF_TWIN: Final = NoAnswer("an attempt whose job still waits may have made the same run")


@dataclass(frozen=True, slots=True)
class _Pending:
    attempt: Attempt
    asked_at: datetime
    answer: asyncio.Future[FindOutcome]


class CallbackProgress(Protocol):
    """How far the provider's callbacks have been read from Kafka."""

    async def heard_until(self, keys: Sequence[str], /) -> Mapping[str, float | None]:
        """For each job id, the time up to which its callbacks are in the ledger (`time.monotonic`); None if unknown."""
        ...


class Reconciler:
    """Searches for the runs of lost submits at one provider."""

    def __init__(self, provider: Provider, pool: Pool, callbacks: CallbackProgress) -> None:
        self._provider = provider
        self._pool = pool
        self._callbacks = callbacks
        self._pending: list[_Pending] = []
        self._pass = asyncio.Lock()

    async def search(self, attempt: Attempt, asked_at: datetime) -> FindOutcome:
        """Return whether the listing contains the attempt's run, asked at this time. Raises the errors of asyncpg."""
        if attempt.submit_started_at is None:
            return NoAnswer("it was never submitted")
        answer: asyncio.Future[FindOutcome] = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(attempt, asked_at, answer))
        async with self._pass:
            if not answer.done():
                await self._search_pending()
        return await answer

    async def _search_pending(self) -> None:
        pending, self._pending = self._pending, []
        found: dict[AttemptId, FindOutcome] = {}
        try:
            found = await self._search([one.attempt for one in pending], max(one.asked_at for one in pending))
        finally:
            for one in pending:
                if not one.answer.done():
                    cut_short = NoAnswer("the search was cut short")
                    one.answer.set_result(found.get(one.attempt.attempt_id, cut_short))

    async def _search(self, attempts: Sequence[Attempt], asked_at: datetime) -> dict[AttemptId, FindOutcome]:
        lost = [one for attempt in attempts if (one := _lost(attempt)) is not None]
        # One that is only to be cancelled is searched for all the same: that its run is absent takes nobody's.
        ended = {attempt.attempt_id for attempt in attempts if attempt.final}
        with_twin = await self._with_twin([one for one in lost if one.attempt_id in ended])
        wanted = [one for one in lost if one.attempt_id not in with_twin]
        found = without_answer([one for one in lost if one.attempt_id in with_twin], _OF_TWIN)
        if wanted:
            since = min(attempt.created_at for attempt in attempts) - TAKEN_SLACK
            began = monotonic()
            found |= await self._provider.find(wanted, await _taken_refs(self._pool, since), asked_at)
            # A run that the listing shows may be that of a twin which was created since.
            shown = [one for one in wanted if isinstance(found.get(one.attempt_id), Found)]
            found |= dict.fromkeys(await self._with_twin(shown), _OF_TWIN)
            # Asked after the listing was read: of each twin whose run was left out as taken, the ledger has the run.
            absent = [one for one in wanted if isinstance(found.get(one.attempt_id), NotFound)]
            found |= twins.of_absent(absent, found, wanted, await twins.twins_listed_by(self._pool, absent))
            found |= await self._with_unread_callbacks(attempts, found, began)
        self._report([untold for outcome in found.values() if (untold := _untold(outcome, asked_at)) is not None])
        return found

    def _report(self, unanswered: Sequence[NoAnswer]) -> None:
        if unanswered:
            _log.warning(
                AttemptEvent.SEARCH_SETTLED_NOTHING,
                provider=self._provider.name,
                count=len(unanswered),
                reason=unanswered[0].reason,
            )

    async def _with_twin(self, lost: Sequence[LostSubmission]) -> frozenset[AttemptId]:
        return await twins.with_live_twins(self._pool, [one.attempt_id for one in lost if one.late])

    async def _with_unread_callbacks(
        self, attempts: Sequence[Attempt], found: Mapping[AttemptId, FindOutcome], began: float
    ) -> dict[AttemptId, FindOutcome]:
        """`NoAnswer` for attempts that are not in the listing, but may have an unread callback in Kafka.

        Called after the listing was read. A callback applied before that has changed the attempt already.
        """
        unlisted = [one for one in attempts if one.expects_callback and isinstance(found.get(one.attempt_id), NotFound)]
        if not unlisted:
            return {}
        read_until = await self._callbacks.heard_until([one.job_id for one in unlisted])
        unread = [one for one in unlisted if (until := read_until.get(one.job_id)) is None or until < began]
        return {one.attempt_id: NoAnswer("a callback about it may lie unread in Kafka") for one in unread}


async def _taken_refs(pool: Pool, since: datetime) -> frozenset[str]:
    """The provider's run ids of all attempts that were updated after `since`."""
    async with bounded(pool, LOOP_LIMIT_S) as connection:
        rows = await connection.fetch(_TAKEN, since)
    return frozenset(row["provider_ref"] for row in rows)


def _untold(outcome: FindOutcome, asked_at: datetime) -> NoAnswer | None:
    """Why the search proves nothing, if that is to be logged."""
    match outcome:
        case NoAnswer():
            return outcome
        case NotFound(twin_listed_by=datetime() as listed_by) if asked_at < listed_by:
            return twins.TAKEN_BY_TWIN
        case _:
            return None


def _lost(attempt: Attempt) -> LostSubmission | None:
    if attempt.submit_started_at is None:
        return None
    return LostSubmission(
        attempt_id=attempt.attempt_id,
        endpoint=attempt.endpoint,
        arguments=attempt.arguments,
        submitted_at=attempt.submit_started_at,
        late=attempt.final or attempt.state.cancel_reason is not None,
    )
