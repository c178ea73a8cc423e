"""Reports about attempts: log records, metrics, and the spans of each attempt and of its calls.

A run may outlive the process that submitted it, so the span is written at the end, from the times in the ledger.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from opentelemetry.trace import Span, SpanKind

from adapter_kit.attempt.inputs import CalledBack, Checked, Input, Resolved, Searched, SubmitAnswered
from adapter_kit.attempt.model import Attempt
from adapter_kit.attempt.states import Ambiguous, Closed
from adapter_kit.call_outcomes import call_failure
from adapter_kit.log_events import AttemptEvent
from adapter_kit.metrics import AMBIGUOUS, ATTEMPT_SECONDS, ATTEMPTS_ENDED, DUPLICATES_SUSPECTED, LATE, RESOLVED
from adapter_kit.port.outcomes import Running, Waiting
from chassis.observability.logs import get_logger
from chassis.observability.telemetry import Telemetry, context_of, failed
from contracts.failures import FailureKind

_log = get_logger("adapter_kit.engine.telemetry")


def report_end(attempt: Attempt, traceparent: str | None, telemetry: Telemetry) -> None:
    """Log and count an attempt that has ended, and write its span; does nothing for one that has not."""
    closed = attempt.state
    if not isinstance(closed, Closed):
        return
    kind = closed.failure.kind.value if closed.failure else ""
    ATTEMPTS_ENDED.labels(attempt.provider, closed.name, kind).inc()
    began = attempt.submit_started_at or attempt.created_at
    ATTEMPT_SECONDS.labels(attempt.provider, closed.name).observe((closed.ended_at - began).total_seconds())
    _log.info(
        AttemptEvent.ATTEMPT_ENDED,
        job_id=attempt.job_id,
        track_id=attempt.track_id,
        attempt=attempt.n,
        provider=attempt.provider,
        state=closed.name,
        kind=kind or None,
        message=closed.failure.message if closed.failure else None,
        error_code=closed.failure.code if closed.failure else None,
    )
    _write_span(attempt, traceparent, began, closed.ended_at, telemetry)


def report_ambiguity(before: Attempt, input_: Input, after: Attempt) -> None:
    """Count an attempt that has become ambiguous, or whose ambiguity was resolved, by how it was resolved."""
    if not isinstance(before.state, Ambiguous) and isinstance(after.state, Ambiguous):
        AMBIGUOUS.labels(after.provider).inc()
    elif isinstance(before.state, Ambiguous) and not isinstance(after.state, Ambiguous):
        verdict = after.failure.kind.value if after.failure else after.state.name
        RESOLVED.labels(after.provider, _RESOLVED_BY.get(type(input_), "time"), verdict).inc()


def report_late(before: Attempt, after: Attempt) -> None:
    """Log and count a run or an outcome that became known after the end of an attempt."""
    if not before.final or before == after:
        return
    log = _log.bind(job_id=after.job_id, track_id=after.track_id, attempt=after.n, provider=after.provider)
    ref = after.ref.request_id if after.ref else None
    if before.ref is None and after.ref is not None:
        log.warning(AttemptEvent.LOST_RUN_FOUND, provider_ref=ref)
        if before.failure is not None and before.failure.kind is FailureKind.NEVER_ACCEPTED:
            # Its job has continued at the next provider, so two runs may be billed.
            DUPLICATES_SUSPECTED.labels(after.provider).inc()
    if after.version > before.version:
        kind = after.failure.kind.value if after.failure else ""
        LATE.labels(after.provider, after.state.name, kind).inc()
        log.warning(AttemptEvent.LATE_OUTCOME, state=after.state.name, kind=kind, provider_ref=ref)


def end_call(span: Span, attempt: Attempt, outcome: Input) -> None:
    """End the span of one call. A check that finds a run as it was is left out: a run is checked every few seconds."""
    if (failure := call_failure(outcome)) is not None:
        failed(span, failure.word, failure.message)
        if failure.http_status is not None:
            span.set_attribute("http.response.status_code", failure.http_status)
    elif isinstance(outcome, Checked) and _is_as_before(attempt, outcome):
        return
    span.end()


def _is_as_before(attempt: Attempt, checked: Checked) -> bool:
    stage = attempt.state.run.stage if attempt.state.run else None
    match checked.outcome:
        case Waiting():
            return stage == "queued"
        case Running():
            return stage == "running"
        case _:
            return False


_RESOLVED_BY: Final = {CalledBack: "callback", Searched: "listing", SubmitAnswered: "answer", Resolved: "operator"}


def _write_span(
    attempt: Attempt, traceparent: str | None, began: datetime, ended: datetime, telemetry: Telemetry
) -> None:
    span = telemetry.tracer.start_span(
        f"generate_content {attempt.endpoint}",
        context=context_of(traceparent),
        kind=SpanKind.CLIENT,
        start_time=_nanoseconds(began),
        attributes={
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": attempt.provider,
            "gen_ai.request.model": attempt.endpoint,
            "segue.job.id": attempt.job_id,
            "segue.attempt.id": attempt.attempt_id,
            "segue.attempt.number": attempt.n,
            "segue.attempt.state": attempt.state.name,
        },
    )
    if attempt.ref is not None:
        span.set_attribute("gen_ai.response.id", attempt.ref.request_id)
    if attempt.failure is not None:
        failed(span, attempt.failure.kind.value, attempt.failure.message)
    span.end(_nanoseconds(ended))


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000
