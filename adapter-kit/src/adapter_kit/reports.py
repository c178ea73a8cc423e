"""What is logged and counted of calls, of steps that fail, and of what attempts cost."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from adapter_kit.attempt.failing import FailedTry, action_word, failed_try
from adapter_kit.attempt.inputs import Input
from adapter_kit.attempt.model import Attempt
from adapter_kit.attempt.states import Failing
from adapter_kit.log_events import AttemptEvent, OutputEvent
from adapter_kit.metrics import ATTEMPT_COST, FETCH_FAILURES, PROVIDER_CALLS
from chassis.observability.log_event import LogEvent
from chassis.observability.logs import get_logger

MOST_COST_USD: Final = 1_000_000.0
"""The most that one attempt is counted with, in USD."""
_log = get_logger("adapter_kit.reports")


def count_call(attempt: Attempt, action: str, input_: Input) -> None:
    """Count an action at the provider by its outcome, which is `input_`; `attempt` is the attempt before it."""
    PROVIDER_CALLS.labels(attempt.provider, action, action_word(input_)).inc()
    failed = failed_try(attempt, input_)
    if failed is not None and failed.step == "fetch":
        FETCH_FAILURES.labels(attempt.provider, failed.word).inc()


def report_step(before: Attempt, input_: Input, after: Attempt, now: datetime) -> None:
    """Log the failed try that the input is, unless one was logged within the last minute, and count new costs."""
    cost_usd = (after.cost_usd or 0.0) - (before.cost_usd or 0.0)
    # A sum that no run can have cost would hide all others, and that of infinity stays.
    if 0 < cost_usd <= MOST_COST_USD:
        ATTEMPT_COST.labels(after.provider, after.endpoint).inc(cost_usd)
    failing = after.failing
    if failing is None or failing == before.failing or failing.logged_at != now:
        return
    failed = failed_try(before, input_)
    if failed is not None:
        _log_failed(after, failed, failing)


def _log_failed(attempt: Attempt, failed: FailedTry, failing: Failing) -> None:
    event: LogEvent
    match failed.step:
        case "fetch":
            pending = failed.word == "not_yet"
            event = AttemptEvent.OUTPUT_PENDING if pending else OutputEvent.OUTPUT_COLLECTION_RETRIED
        case "check":
            event = AttemptEvent.RUN_STATUS_UNKNOWN
        case "cancel":
            event = AttemptEvent.CANCEL_NOT_DELIVERED
    _log.warning(
        event,
        job_id=attempt.job_id,
        track_id=attempt.track_id,
        attempt=attempt.n,
        provider=attempt.provider,
        reason=failed.word,
        message=failed.message,
        host=failed.host,
        tries=failing.tries,
        retry_at=None if attempt.next_action_at is None else attempt.next_action_at.isoformat(timespec="seconds"),
    )
