"""The action executor: performs the action that a step returned, at the provider or the artifact store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar, assert_never

from opentelemetry.trace import SpanKind

from adapter_kit.artifacts.collector import Collector
from adapter_kit.attempt.actions import Action, Cancel, Check, Collect, Post, Search
from adapter_kit.attempt.inputs import CancelAnswered, Checked, CollectFailed, Input, Searched, SubmitAnswered
from adapter_kit.attempt.model import HELD_UP_S, Attempt
from adapter_kit.engine.callback_monitor import CallbackMonitor
from adapter_kit.engine.reconciler import SEARCH_LIMIT_S, Reconciler
from adapter_kit.engine.telemetry import end_call
from adapter_kit.http.causes import error_word
from adapter_kit.log_events import AttemptEvent, OutputEvent
from adapter_kit.metrics import CALL_SECONDS, LATE_POSTS
from adapter_kit.port.outcomes import (
    Accepted,
    CallbackRefused,
    NoAnswer,
    NotSent,
    ProviderRef,
    Refused,
    SubmitOutcome,
    Throttled,
    Unclear,
    Unreadable,
)
from adapter_kit.port.provider import Provider, Run, Submission
from adapter_kit.reports import count_call
from chassis.observability.logs import get_logger
from chassis.observability.telemetry import failed
from chassis.runtime.runtime import Runtime
from contracts.text import error_in_words

CALL_LIMIT_S: Final = 60.0
T = TypeVar("T")
CallbackUrl = Callable[[Attempt], str | None]
HeldAt = Callable[[], float]


class ActionExecutor:
    """Performs actions by calls to one provider and to the collector."""

    def __init__(
        self,
        provider: Provider,
        collector: Collector,
        runtime: Runtime,
        *,
        reconciler: Reconciler,
        callback_url: CallbackUrl,
        callback_monitor: CallbackMonitor,
    ) -> None:
        self._provider = provider
        self._collector = collector
        self._runtime = runtime
        self._reconciler = reconciler
        self._callback_url = callback_url
        self._callback_monitor = callback_monitor
        self._log = get_logger("adapter_kit.engine.executor")

    async def perform(self, attempt: Attempt, action: Action, traceparent: str | None, held_at: HeldAt) -> Input:
        """Perform `action`, and return its outcome as an input; no error of the provider is raised.

        `held_at` returns when the lease was last known to be held, in monotonic seconds.
        """
        name = type(action).__name__.lower()
        attributes = {
            "segue.job.id": attempt.job_id,
            "segue.attempt.id": attempt.attempt_id,
            "gen_ai.provider.name": attempt.provider,
            "gen_ai.request.model": attempt.endpoint,
        }
        started = monotonic()
        try:
            with self._runtime.telemetry.span(
                f"{name} {attempt.endpoint}",
                parent=traceparent,
                kind=SpanKind.CLIENT,
                attributes=attributes,
                end_on_exit=False,
            ) as span:
                try:
                    input_ = await self._perform(attempt, action, held_at)
                except BaseException as error:
                    failed(span, type(error).__name__)
                    span.end()
                    raise
                end_call(span, attempt, input_)
                count_call(attempt, name, input_)
                return input_
        finally:
            CALL_SECONDS.labels(attempt.provider, name).observe(monotonic() - started)

    def learn(self, attempt: Attempt, input_: Input) -> None:
        """Update the callback monitor by an input; `attempt` is the attempt after it."""
        self._callback_monitor.note(attempt, input_)

    async def _perform(self, attempt: Attempt, action: Action, held_at: HeldAt) -> Input:
        match action:
            case Post(submission):
                return SubmitAnswered(submission, await self._post(attempt, held_at))
            case Search(asked_at):
                searching = self._reconciler.search(attempt, asked_at)
                return Searched(await self._bounded(searching, SEARCH_LIMIT_S), asked_at)
            case Collect(asked_at):
                collected = await self._collector.collect(attempt, asked_at)
                if isinstance(collected, CollectFailed) and collected.final:
                    failure = collected.failure
                    self._log.error(OutputEvent.OUTPUT_NOT_COLLECTED, kind=failure.kind, message=failure.message)
                return collected
            case Check(ref, asked_at):
                state = await self._bounded(self._provider.check(_run(attempt, ref)))
                if isinstance(state, Unreadable):
                    self._log.error(AttemptEvent.RESULT_UNREADABLE, reason=state.reason, raw=state.raw)
                return Checked(state, ref, asked_at, self._callback_monitor.callbacks_arrive)
            case Cancel(ref, asked_at):
                outcome = await self._bounded(self._provider.cancel(_run(attempt, ref)))
                reason = attempt.state.cancel_reason
                self._log.info(AttemptEvent.CANCEL_SENT, reason=reason, answer=type(outcome).__name__)
                return CancelAnswered(outcome, asked_at)
            case _:
                assert_never(action)

    async def _post(self, attempt: Attempt, held_at: HeldAt) -> SubmitOutcome:
        if monotonic() - held_at() > HELD_UP_S:
            # The process may have been suspended since the claim, and another replica may have taken over the attempt.
            LATE_POSTS.labels(attempt.provider).inc()
            return NotSent("the process was held up between the intent and the POST", held_up=True)
        submission = Submission(
            attempt_id=attempt.attempt_id,
            endpoint=attempt.endpoint,
            arguments=attempt.arguments,
            start_within_s=attempt.start_within_s,
            run_within_s=attempt.run_within_s,
            webhook_url=self._callback_url(attempt),
        )
        self._log.info(AttemptEvent.SUBMITTING, endpoint=attempt.endpoint)
        try:
            async with asyncio.timeout(attempt.submit_timeout_s + 5):
                outcome = await self._provider.submit(submission)
        except Exception as error:  # noqa: BLE001 - after an unexpected error the request may have been delivered
            self._log.exception(AttemptEvent.SUBMIT_RAISED)
            outcome = Unclear(error_in_words(error), word=error_word(error))
        self._log_outcome(outcome)
        return outcome

    def _log_outcome(self, outcome: SubmitOutcome) -> None:
        match outcome:
            case Accepted(ref):
                self._log.info(AttemptEvent.SUBMIT_ACCEPTED, provider_ref=ref.request_id)
            case CallbackRefused(failure):
                self._log.error(
                    AttemptEvent.CALLBACK_URL_REFUSED, message=failure.message, http_status=failure.http_status
                )
            case Refused(failure):
                self._log.warning(
                    AttemptEvent.SUBMIT_REFUSED,
                    message=failure.message,
                    kind=failure.kind,
                    error_code=failure.code,
                    http_status=failure.http_status,
                )
            case NotSent(reason):
                self._log.warning(AttemptEvent.SUBMIT_NOT_SENT, message=reason)
            case Throttled(failure, retry_after_s):
                self._log.warning(AttemptEvent.SUBMIT_THROTTLED, message=failure.message, retry_after_s=retry_after_s)
            case Unclear(reason):
                self._log.warning(AttemptEvent.SUBMIT_AMBIGUOUS, message=reason)
            case _:
                assert_never(outcome)

    async def _bounded(self, call: Awaitable[T], within_s: float = CALL_LIMIT_S) -> T | NoAnswer:
        try:
            async with asyncio.timeout(within_s):
                return await call
        except Exception as error:  # noqa: BLE001 - the call can be repeated safely after any error
            self._log.exception(AttemptEvent.CALL_RAISED)
            return NoAnswer(error_in_words(error), word=error_word(error))


def _run(attempt: Attempt, ref: ProviderRef) -> Run:
    return Run(attempt.attempt_id, attempt.endpoint, attempt.modality, ref, attempt.arguments)
