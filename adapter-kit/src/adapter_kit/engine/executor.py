"""The action executor: performs the one action that a step asked for, at the provider or the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar, assert_never

from opentelemetry.trace import SpanKind

from adapter_kit.artifacts.collector import Collector
from adapter_kit.attempt.actions import Action, Cancel, Check, Collect, Post, Search
from adapter_kit.attempt.inputs import CancelAnswered, Checked, CollectFailed, Input, Searched, SubmitAnswered
from adapter_kit.attempt.model import LEASE_S, Attempt
from adapter_kit.engine.callback_monitor import CallbackMonitor
from adapter_kit.engine.reconciler import SEARCH_LIMIT_S, Reconciler
from adapter_kit.metrics import CALL_SECONDS, LATE_POSTS
from adapter_kit.port.outcomes import (
    Accepted,
    CallbackRefused,
    Missing,
    NoAnswer,
    NotSent,
    OutputPending,
    Refused,
    SubmitOutcome,
    Throttled,
    Unclear,
    Unreadable,
)
from adapter_kit.port.provider import Provider, Run, Submission
from chassis.observability.logs import get_logger
from chassis.runtime.runtime import Runtime
from contracts.text import error_in_words

CALL_LIMIT_S: Final = 60.0
T = TypeVar("T")
CallbackUrl = Callable[[Attempt], str | None]
HeldAt = Callable[[], float]


class ActionExecutor:
    """The provider's port and the collector, as actions."""

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
        """Perform `action`; `held_at` returns when the lease was last known to be held (monotonic seconds)."""
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
                f"{name} {attempt.endpoint}", parent=traceparent, kind=SpanKind.CLIENT, attributes=attributes
            ):
                return await self._ask(attempt, action, held_at)
        finally:
            CALL_SECONDS.labels(attempt.provider, name).observe(monotonic() - started)

    def learn(self, attempt: Attempt, input_: Input) -> None:
        """Update what is known of the provider by what happened to `attempt`, which is the attempt after it."""
        self._callback_monitor.note(attempt, input_)

    async def _ask(self, attempt: Attempt, action: Action, held_at: HeldAt) -> Input:
        match action:
            case Post(submission):
                return SubmitAnswered(submission, await self._post(attempt, held_at))
            case Search():
                return Searched(await self._bounded(self._reconciler.search(attempt), SEARCH_LIMIT_S))
            case Collect():
                collected = await self._collector.collect(attempt)
                if isinstance(collected, CollectFailed):
                    failure = collected.failure
                    log = self._log.error if collected.final else self._log.warning
                    log("output_not_collected", kind=failure.kind, message=failure.message, final=collected.final)
                return collected
            case Check():
                run = _run(attempt)
                state = Missing("no reference") if run is None else await self._bounded(self._provider.check(run))
                if isinstance(state, NoAnswer):
                    self._log.warning("the provider does not say how the run stands", reason=state.reason)
                elif isinstance(state, OutputPending | Missing):
                    self._log.warning("output_not_there_yet", reason=state.reason)
                elif isinstance(state, Unreadable):
                    self._log.error("result_not_readable", reason=state.reason, raw=state.raw)
                return Checked(state, self._callback_monitor.callbacks_arrive)
            case Cancel():
                run = _run(attempt)
                outcome = Missing("no reference") if run is None else await self._bounded(self._provider.cancel(run))
                self._log.info("cancel sent", reason=attempt.cancel_reason, answer=type(outcome).__name__)
                return CancelAnswered(outcome)
            case _:
                assert_never(action)

    async def _post(self, attempt: Attempt, held_at: HeldAt) -> SubmitOutcome:
        if monotonic() - held_at() > LEASE_S / 2:
            # A process that was stopped for a while wakes up here; by now others may count the POST as lost.
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
        self._log.info("submitting", endpoint=attempt.endpoint)
        try:
            async with asyncio.timeout(attempt.submit_timeout_s + 5):
                outcome = await self._provider.submit(submission)
        except Exception as error:  # noqa: BLE001 - after an unforeseen error nobody knows what was delivered
            self._log.exception("the submit raised")
            outcome = Unclear(error_in_words(error))
        self._hear(outcome)
        return outcome

    def _hear(self, outcome: SubmitOutcome) -> None:
        match outcome:
            case Accepted(ref):
                self._log.info("accepted", provider_ref=ref.request_id)
            case CallbackRefused(failure):
                told = "refused for the address of our callbacks: check SEGUE_PUBLIC_URL; the run goes on being polled"
                self._log.error(told, message=failure.message, http_status=failure.http_status)
            case Refused(failure):
                said = {"kind": failure.kind, "error_code": failure.code, "http_status": failure.http_status}
                self._log.warning("refused", message=failure.message, **said)
            case NotSent(reason):
                self._log.warning("not sent", message=reason)
            case Throttled(failure, retry_after_s):
                self._log.warning("throttled", message=failure.message, retry_after_s=retry_after_s)
            case Unclear(reason):
                self._log.warning("unclear whether it was accepted; it is never sent again", message=reason)
            case _:
                assert_never(outcome)

    async def _bounded(self, call: Awaitable[T], within_s: float = CALL_LIMIT_S) -> T | NoAnswer:
        try:
            async with asyncio.timeout(within_s):
                return await call
        except Exception as error:  # noqa: BLE001 - asking again is safe, whatever it was
            self._log.exception("the call raised; it is asked again")
            return NoAnswer(error_in_words(error))


def _run(attempt: Attempt) -> Run | None:
    ref = attempt.ref or attempt.claim
    return None if ref is None else Run(attempt.attempt_id, attempt.endpoint, attempt.modality, ref, attempt.arguments)
