"""The outcome writer: the outcomes of many calls go to the ledger in one transaction at a time.

While one transaction is on its way the next outcomes gather, so a lone outcome waits for nothing and a flood of them
shares its commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from adapter_kit.attempt.inputs import CancelAnswered, Checked, CollectFailed, Input, Searched, SubmitAnswered
from adapter_kit.breaker.store import BreakerStore
from adapter_kit.engine import ledger
from adapter_kit.engine.ledger import Stepped
from adapter_kit.log_events import LedgerEvent
from adapter_kit.port.outcomes import Failure, NoAnswer, Unclear
from chassis.kafka.outbox import Outbox
from chassis.observability.logs import get_logger
from chassis.postgres.pool import TRANSIENT
from chassis.runtime.retry import retry
from contracts.ids import AttemptId


@dataclass(frozen=True, slots=True)
class _Told:
    attempt_id: AttemptId
    input_: Input
    answer: asyncio.Future[Stepped | None]


class OutcomeWriter:
    """The one writer of outcomes in this process."""

    def __init__(self, outbox: Outbox, breakers: BreakerStore) -> None:
        self._outbox = outbox
        self._breakers = breakers
        self._waiting: list[_Told] = []
        self._news = asyncio.Event()
        self._log = get_logger("adapter_kit.engine.outcome_writer")

    async def settle(self, attempt_id: AttemptId, input_: Input) -> Stepped | None:
        """The attempt after the input, once that is committed; None if the ledger cannot take it."""
        answer: asyncio.Future[Stepped | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Told(attempt_id, input_, answer))
        self._news.set()
        return await answer

    async def run(self) -> None:
        """Write outcomes until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            told, self._waiting = self._waiting, []
            if told:
                await self._write(told)

    async def _write(self, told: Sequence[_Told]) -> None:
        def waits(error: BaseException) -> None:
            self._log.warning(LedgerEvent.OUTCOMES_POSTPONED, outcomes=len(told), error=repr(error))

        try:
            # An answer to a paid POST is worth waiting for: it is held until the database is back.
            write = partial(self._write_once, told)
            await retry(write, TRANSIENT, pause_s=0.1, longest_pause_s=2.0, on_error=waits)
        except Exception:  # noqa: BLE001 - one outcome that cannot be written must not hold up the others
            if len(told) > 1:
                for one in told:
                    await self._write([one])
                return
            self._log.exception(LedgerEvent.OUTCOME_NOT_WRITTEN, attempt_id=told[0].attempt_id)
            plainer = replace(told[0], input_=storable(told[0].input_))
            if plainer != told[0]:
                await self._write([plainer])
            else:
                # The row stays as it is, comes due again, and is resolved as any lost outcome is.
                told[0].answer.set_result(None)

    async def _write_once(self, told: Sequence[_Told]) -> None:
        async with self._outbox.transaction() as transaction:
            happened = [(one.attempt_id, one.input_) for one in told]
            stepped = await ledger.apply(transaction, happened, self._breakers)
        for one in told:
            if not one.answer.done():
                one.answer.set_result(stepped.get(one.attempt_id))


def storable(input_: Input) -> Input:
    """The input without the texts of the provider, for one that PostgreSQL cannot store as it is."""
    what = "what the provider said could not be kept"
    match input_:
        case SubmitAnswered(submission):
            return SubmitAnswered(submission, Unclear(what))
        case Checked():
            return Checked(NoAnswer(what))
        case CancelAnswered():
            return CancelAnswered(NoAnswer(what))
        case Searched():
            return Searched(NoAnswer(what))
        case CollectFailed(failure, final):
            return CollectFailed(Failure(failure.kind, what), final=final)
        case _:
            return input_
