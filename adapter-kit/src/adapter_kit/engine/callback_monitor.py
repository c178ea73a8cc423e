"""The callback monitor: whether the provider's callbacks arrive. While they do, runs are polled less often."""

from __future__ import annotations

from adapter_kit.attempt.inputs import Checked, Input, SubmitAnswered
from adapter_kit.attempt.machine import is_foreign
from adapter_kit.attempt.model import Attempt
from adapter_kit.log_events import AttemptEvent, CallbackEvent
from adapter_kit.metrics import CALLBACKS_ARRIVE, DUPLICATES_SUSPECTED
from adapter_kit.port.outcomes import Accepted, Broken, Produced, ProviderRef
from chassis.observability.logs import get_logger
from contracts.generation import Provider


class CallbackMonitor:
    """Whether callbacks arrive: set by received callbacks, cleared by runs that ended without one; initially false."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._log = get_logger("adapter_kit.engine.callback_monitor")
        self.callbacks_arrive = False
        CALLBACKS_ARRIVE.labels(provider).set(0)

    def heard(self) -> None:
        """Record that a callback arrived."""
        self._set(arrive=True)

    def note(self, attempt: Attempt, input_: Input) -> None:
        """Update the state by an input; `attempt` is the attempt after it."""
        arrived = callbacks_arriving(attempt, input_)
        if arrived is not None:
            self._set(arrive=arrived)
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
