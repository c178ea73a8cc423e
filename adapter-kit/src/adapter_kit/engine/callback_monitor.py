"""The callback monitor: whether the provider's callbacks arrive. While they do, runs are polled less often."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from adapter_kit.attempt.inputs import Checked, Input, SubmitAnswered
from adapter_kit.attempt.machine import is_foreign
from adapter_kit.attempt.model import Attempt
from adapter_kit.log_events import AttemptEvent, CallbackEvent
from adapter_kit.metrics import CALLBACKS_ARRIVE, DUPLICATES_SUSPECTED
from adapter_kit.port.outcomes import Accepted, Broken, Produced, ProviderRef
from chassis.observability.logs import get_logger
from contracts.generation import Provider

MISSING_AFTER_S: Final = 30.0
"""A callback that is on its way when its run is polled is not missing: others arrive in this many seconds before it."""


class CallbackMonitor:
    """Whether callbacks arrive: set by each that is received; initially false.

    Cleared by a run that ended without one, if none was received in the last MISSING_AFTER_S seconds.
    """

    def __init__(self, provider: Provider, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._clock = clock
        self._heard_at = float("-inf")
        self._log = get_logger("adapter_kit.engine.callback_monitor")
        self.callbacks_arrive = False
        CALLBACKS_ARRIVE.labels(provider).set(0)

    def heard(self) -> None:
        """Record that a callback arrived."""
        self._heard_at = self._clock()
        self._set(arrive=True)

    def note(self, attempt: Attempt, input_: Input) -> None:
        """Update the state by an input; `attempt` is the attempt after it."""
        arrived = callbacks_arriving(attempt, input_)
        if arrived:
            self.heard()
        elif arrived is False and self._clock() - self._heard_at >= MISSING_AFTER_S:
            self._set(arrive=False)
        if isinstance(input_, SubmitAnswered) and isinstance(input_.outcome, Accepted):
            self.suspect(attempt, input_.outcome.ref)

    def suspect(self, attempt: Attempt, ref: ProviderRef | None) -> bool:
        """Return whether `ref` is a second run of the attempt; log and count it if so."""
        if ref is None or not is_foreign(attempt, ref):
            return False
        DUPLICATES_SUSPECTED.labels(self._provider).inc()
        known = attempt.ref.request_id if attempt.ref else None
        self._log.error(
            AttemptEvent.DUPLICATE_RUN_SUSPECTED,
            job_id=attempt.job_id,
            attempt_id=attempt.attempt_id,
            ref=ref.request_id,
            known=known,
        )
        return True

    def _set(self, *, arrive: bool) -> None:
        if arrive == self.callbacks_arrive:
            return
        self.callbacks_arrive = arrive
        CALLBACKS_ARRIVE.labels(self._provider).set(arrive)
        if arrive:
            self._log.info(CallbackEvent.CALLBACKS_ARRIVE, provider=self._provider)
        else:
            self._log.warning(CallbackEvent.CALLBACK_MISSING, provider=self._provider)


def callbacks_arriving(attempt: Attempt, input_: Input) -> bool | None:
    """Whether the provider called back about a run that has ended; None if the input does not show it."""
    if not attempt.expects_callback or not isinstance(input_, Checked):
        return None
    # A provider need not send a callback for a run that was cancelled.
    return attempt.called_back if isinstance(input_.outcome, Produced | Broken) else None
