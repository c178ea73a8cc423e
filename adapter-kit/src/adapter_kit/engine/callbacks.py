"""Callbacks of providers: each becomes an input of its attempt, with the outputs if it reports success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from adapter_kit.attempt.inputs import CalledBack
from adapter_kit.attempt.model import Attempt
from adapter_kit.engine import ledger
from adapter_kit.engine.callback_monitor import CallbackMonitor
from adapter_kit.engine.ledger import Held
from adapter_kit.log_events import CallbackEvent
from adapter_kit.metrics import CALLBACKS_HEARD
from adapter_kit.port.outcomes import Callback, ProviderRef
from adapter_kit.port.provider import Provider, Run
from chassis.kafka.outbox import Transaction
from chassis.observability.logs import get_logger
from contracts.ids import AttemptId
from contracts.messages.callbacks import CallbackReceived


@dataclass(frozen=True, slots=True)
class _Called:
    attempt_id: AttemptId
    body: str
    callback: Callback | None
    ref: ProviderRef | None
    """The run that the callback names; None if it names none, or the run of another attempt."""


class Callbacks:
    """Applies verified callbacks to the ledger, in the transaction of their batch."""

    def __init__(self, provider: Provider, callback_monitor: CallbackMonitor) -> None:
        self._provider = provider
        self._callback_monitor = callback_monitor
        self._log = get_logger("adapter_kit.engine.callbacks")

    async def take(self, transaction: Transaction, held: Held, received: Sequence[CallbackReceived]) -> None:
        """Step the attempt of each callback. Repeated callbacks, and those for settled attempts, change nothing."""
        await ledger.lock(transaction, held, (one.attempt_id for one in received))
        read = [(one, self._provider.read_callback(one.body)) for one in received]
        refs = [callback.ref for _, callback in read if callback is not None]
        owners = await ledger.owners(transaction, held, refs)
        called = [_called(one, callback, owners) for one, callback in read]
        await ledger.advance(transaction, held, [(one.attempt_id, partial(self._input, one)) for one in called])
        after = {attempt_id: each.attempt for attempt_id, each in held.attempts.items()}
        transaction.after_commit(lambda: self._report(called, after))

    def _input(self, one: _Called, attempt: Attempt) -> CalledBack:
        if one.ref is None or one.callback is None:
            return CalledBack()
        run = Run(attempt.attempt_id, attempt.endpoint, attempt.modality, one.ref, attempt.arguments)
        return CalledBack(one.ref, self._provider.read_result(one.body, run), one.callback.at_work)

    def _report(self, called: Sequence[_Called], attempts: dict[AttemptId, Attempt]) -> None:
        unknown = [one.attempt_id for one in called if one.attempt_id not in attempts]
        if unknown:
            # One record for all of them: a producer can write any number of such messages to the topic.
            self._log.warning(CallbackEvent.CALLBACKS_OF_UNKNOWN_ATTEMPTS, count=len(unknown), attempt_id=unknown[0])
        for one in called:
            verdict = self._verdict(one, attempts.get(one.attempt_id))
            CALLBACKS_HEARD.labels(self._provider.name, verdict).inc()
            if verdict == "unknown":
                continue
            ref, over = (one.callback.ref.request_id, one.callback.over) if one.callback else (None, None)
            if verdict == "heard":
                self._log.info(CallbackEvent.CALLBACK_RECEIVED, attempt_id=one.attempt_id, provider_ref=ref, over=over)
                continue
            self._log.warning(
                CallbackEvent.CALLBACK_NOT_APPLIED,
                attempt_id=one.attempt_id,
                provider_ref=ref,
                over=over,
                verdict=verdict,
            )

    def _verdict(self, one: _Called, attempt: Attempt | None) -> str:
        if attempt is None:
            return "unknown"
        self._callback_monitor.heard()
        if self._callback_monitor.suspect(attempt, one.ref):
            return "foreign"
        if one.callback is None:
            return "unreadable"
        return "heard" if one.ref is not None else "swapped"


def _called(one: CallbackReceived, callback: Callback | None, owners: dict[str, AttemptId]) -> _Called:
    # Two attempts with the same input may have been assigned each other's run by the listing; that is harmless.
    ours = callback is not None and owners.get(callback.ref.request_id, one.attempt_id) == one.attempt_id
    return _Called(one.attempt_id, one.body, callback, callback.ref if callback is not None and ours else None)
