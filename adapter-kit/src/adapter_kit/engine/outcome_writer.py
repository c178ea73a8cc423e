"""The outcome writer: writes the outcomes of actions to the ledger, many in one transaction.

There is one transaction at a time. Outcomes that arrive during it are written by the next one, so that a single outcome
is not delayed, and many share a commit.
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
class _Outcome:
    attempt_id: AttemptId
    input_: Input
    answer: asyncio.Future[Stepped | None]


class OutcomeWriter:
    """Writes all outcomes of this process."""

    def __init__(self, outbox: Outbox, breakers: BreakerStore) -> None:
        self._outbox = outbox
        self._breakers = breakers
        self._waiting: list[_Outcome] = []
        self._arrived = asyncio.Event()
        self._log = get_logger("adapter_kit.engine.outcome_writer")

    async def settle(self, attempt_id: AttemptId, input_: Input) -> Stepped | None:
        """Return the attempt after the input, once committed; None if it is unknown or the input cannot be written."""
        answer: asyncio.Future[Stepped | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Outcome(attempt_id, input_, answer))
        self._arrived.set()
        return await answer

    async def run(self) -> None:
        """Write outcomes until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            outcomes, self._waiting = self._waiting, []
            if outcomes:
                await self._write(outcomes)

    async def _write(self, outcomes: Sequence[_Outcome]) -> None:
        def on_error(error: BaseException) -> None:
            self._log.warning(LedgerEvent.OUTCOMES_POSTPONED, outcomes=len(outcomes), error=repr(error))

        try:
            # The outcome of a paid POST must not be lost: it is retried until the database is available.
            write = partial(self._write_once, outcomes)
            await retry(write, TRANSIENT, pause_s=0.1, longest_pause_s=2.0, on_error=on_error)
        except Exception:  # noqa: BLE001 - one outcome that cannot be written must not hold up the others
            if len(outcomes) > 1:
                for one in outcomes:
                    await self._write([one])
                return
            self._log.exception(LedgerEvent.OUTCOME_NOT_WRITTEN, attempt_id=outcomes[0].attempt_id)
            without_texts = replace(outcomes[0], input_=storable(outcomes[0].input_))
            if without_texts != outcomes[0]:
                await self._write([without_texts])
            else:
                # The row is unchanged and becomes due again; it is resolved as after any lost outcome.
                outcomes[0].answer.set_result(None)

    async def _write_once(self, outcomes: Sequence[_Outcome]) -> None:
        happened = [(one.attempt_id, one.input_) for one in outcomes]
        opening = ledger.opening(one.attempt_id for one in outcomes)
        async with self._outbox.transaction(opening=opening) as transaction:
            stepped, changes = await ledger.apply(transaction, happened, ledger.opened(transaction))
            await self._breakers.record(transaction, changes)
        for one in outcomes:
            if not one.answer.done():
                one.answer.set_result(stepped.get(one.attempt_id))


def storable(input_: Input) -> Input:
    """The input without the texts of the provider, which PostgreSQL may be unable to store."""
    what = "what the provider said could not be kept"
    match input_:
        case SubmitAnswered(submission):
            return SubmitAnswered(submission, Unclear(what))
        case Checked() | CancelAnswered() | Searched():
            return replace(input_, outcome=NoAnswer(what))
        case CollectFailed(failure, final, asked_at):
            return CollectFailed(Failure(failure.kind, what), final, asked_at)
        case _:
            return input_
