"""The reconciler: looks for all submits that are missed at a time in one walk through the provider's listing.

A provider that loses answers loses many, and each would otherwise read the same long list, until the provider refuses
to show it. While one walk is under way the next submits gather, so a lone one waits for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final, Protocol

from adapter_kit.attempt.model import Attempt
from adapter_kit.engine import ledger
from adapter_kit.port.listing import CLOCK_SKEW, WALK_S, without_answer
from adapter_kit.port.outcomes import FindOutcome, NoAnswer, NotFound
from adapter_kit.port.provider import LostSubmission, Provider
from chassis.postgres.pool import Pool
from contracts.ids import AttemptId

TAKEN_SLACK: Final = 2 * CLOCK_SKEW
SEARCH_LIMIT_S: Final = 2 * WALK_S + 20
"""How long a search may take: the walk under way, its own, and some seconds for the database."""


@dataclass(frozen=True, slots=True)
class _Missed:
    attempt: Attempt
    answer: asyncio.Future[FindOutcome]


class CallbackProgress(Protocol):
    """How far the provider's callbacks have been read from Kafka."""

    async def heard_until(self, keys: Sequence[str], /) -> Mapping[str, float | None]:
        """For each job id, when its callbacks so far were in the ledger, by `time.monotonic`; None: not known."""
        ...


class Reconciler:
    """Looks for lost submits of one provider."""

    def __init__(self, provider: Provider, pool: Pool, callbacks: CallbackProgress) -> None:
        self._provider = provider
        self._pool = pool
        self._callbacks = callbacks
        self._missed: list[_Missed] = []
        self._walking = asyncio.Lock()

    async def search(self, attempt: Attempt) -> FindOutcome:
        """Whether the listing shows the attempt's run. Raises what the database raises."""
        if attempt.submit_started_at is None:
            return NoAnswer("it was never submitted")
        answer: asyncio.Future[FindOutcome] = asyncio.get_running_loop().create_future()
        self._missed.append(_Missed(attempt, answer))
        async with self._walking:
            if not answer.done():
                await self._answer_all()
        return await answer

    async def _answer_all(self) -> None:
        missed, self._missed = self._missed, []
        found: dict[AttemptId, FindOutcome] = {}
        try:
            found = await self._look_for([one.attempt for one in missed])
        finally:
            for one in missed:
                if not one.answer.done():
                    cut_short = NoAnswer("the search was cut short")
                    one.answer.set_result(found.get(one.attempt.attempt_id, cut_short))

    async def _look_for(self, attempts: Sequence[Attempt]) -> dict[AttemptId, FindOutcome]:
        lost = [one for attempt in attempts if (one := _lost(attempt)) is not None]
        missed_elsewhere = await ledger.with_live_twins(self._pool, [one.attempt_id for one in lost if one.late])
        twins = [one for one in lost if one.attempt_id in missed_elsewhere]
        wanted = [one for one in lost if one.attempt_id not in missed_elsewhere]
        found = without_answer(twins, NoAnswer("an attempt whose job still waits may have made the same run"))
        if wanted:
            since = min(attempt.created_at for attempt in attempts) - TAKEN_SLACK
            began = monotonic()
            found |= await self._provider.find(wanted, await ledger.taken_refs(self._pool, since))
            found |= await self._unheard(attempts, found, began)
        return found

    async def _unheard(
        self, attempts: Sequence[Attempt], found: Mapping[AttemptId, FindOutcome], began: float
    ) -> dict[AttemptId, FindOutcome]:
        """No answer for those that the listing lacks while a callback about them may lie unread in Kafka.

        Asked after the listing: what was read by then has changed the attempt already, and the silence is not used.
        """
        silent = [one for one in attempts if one.expects_callback and isinstance(found.get(one.attempt_id), NotFound)]
        if not silent:
            return {}
        heard = await self._callbacks.heard_until([one.job_id for one in silent])
        unheard = [one for one in silent if (until := heard.get(one.job_id)) is None or until < began]
        return {one.attempt_id: NoAnswer("a callback about it may lie unread in Kafka") for one in unheard}


def _lost(attempt: Attempt) -> LostSubmission | None:
    if attempt.submit_started_at is None:
        return None
    return LostSubmission(
        attempt_id=attempt.attempt_id,
        endpoint=attempt.endpoint,
        arguments=attempt.arguments,
        submitted_at=attempt.submit_started_at,
        late=attempt.final,
    )
