"""Collecting: the outputs of a finished run are fetched, until they are stored or count as lost. Pure.

The run is paid for. A single failure to fetch its output proves nothing: a file may become available after the run is
reported as finished, and a 404 may come from a replica that lags behind. Fetching is retried with increasing delays
until the end of the fetching window. Only then is the output lost, and only then may another provider be paid.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal

from adapter_kit.attempt.actions import Collect
from adapter_kit.attempt.inputs import CollectFailed
from adapter_kit.attempt.model import (
    TIMES_UNKNOWN,
    Attempt,
    Step,
    backoff_s,
    failed,
    succeeded,
    with_event,
    with_lease,
)
from adapter_kit.attempt.states import (
    Cancelling,
    CancelReason,
    Collecting,
    Fetching,
    Files,
    Running,
    Watching,
)
from adapter_kit.port.outcomes import CheckOutcome, Failure, Output, Produced, Unreadable
from contracts.failures import FAILURES, FailureKind
from contracts.messages.attempts import Artifact, AttemptProgressed

FETCH_SHARE: Final = 0.5
"""Length of the fetching window as a share of the job's remaining time; the rest is for the next provider."""
FETCH_AT_LEAST_S: Final = 30.0
"""Minimum length of the fetching window in seconds, if the job has that much time left."""

LONGEST_WAIT_S: Final = 30.0
"""Upper limit, in seconds, for the delay that a provider may request before the next read of a result."""


def collecting(
    attempt: Attempt, state: Running | Cancelling | Collecting, fetch_by: datetime, outputs: tuple[Output, ...] = ()
) -> Attempt:
    """The attempt in `collecting`, with the outputs that the provider has named."""
    run = replace(state.run, times_unknown=0)
    entered = Collecting(run, fetch_by, Files(outputs), cancel_reason=state.cancel_reason)
    return replace(attempt, state=entered, tries=0)


def window(attempt: Attempt, state: Running | Cancelling | Collecting, now: datetime) -> datetime:
    """End of the fetching window; if there is none yet, one begins at `now`."""
    return new_window(attempt, state.cancel_reason, now) if state.fetch_by is None else state.fetch_by


def new_window(attempt: Attempt, cancel_reason: CancelReason | None, now: datetime) -> datetime:
    """End of a fetching window that begins at `now`.

    The window is half the time to the job's deadline, or all of it if no other provider may be paid, and at most as
    long as the provider keeps the result. For a job that is being cancelled it has the minimum length.
    """
    left_s = max(0.0, (attempt.deadline_at - now).total_seconds())
    if cancel_reason in ("client", "deadline"):
        share_s = FETCH_AT_LEAST_S
    else:
        share_s = left_s if attempt.lost_output_policy == "fail" else max(FETCH_AT_LEAST_S, left_s * FETCH_SHARE)
    return now + timedelta(seconds=min(left_s, share_s, attempt.results_kept_s))


def shorten_window(attempt: Attempt, state: Collecting, reason: CancelReason, now: datetime) -> Step:
    """The job is being cancelled: the output of its run, which is paid for, is fetched in a shortened window."""
    fetch_by = min(new_window(attempt, reason, now), state.fetch_by)
    return Step(replace(attempt, state=replace(state, cancel_reason=reason, fetch_by=fetch_by)))


def output_pending(
    attempt: Attempt,
    state: Running | Cancelling | Collecting,
    reason: str,
    asked_at: datetime,
    now: datetime,
    instead: tuple[Output, ...] = (),
    *,
    wait_s: float | None = None,
) -> Step:
    """The run has finished, but its output is not available yet: read the result again until the window ends.

    `instead` are other outputs, used at the end of the window. `wait_s` is the delay that the provider requested.
    """
    fetch_by = window(attempt, state, now)
    if _decides(attempt, fetch_by, asked_at, now):
        over = replace(state, run=replace(state.run, cancel_answered=True))  # There is nothing left to stop.
        if instead:
            taken = with_lease(collecting(attempt, over, fetch_by, instead), now)
            message = f"{reason}; other outputs of the result are used instead"
            return with_event(taken, AttemptProgressed, now, Collect(now), stage="collecting", message=message)
        return lost(replace(attempt, state=over), Failure(FailureKind.OUTPUT_LOST, reason), now)
    if isinstance(state, Collecting):
        known = replace(attempt, state=replace(state, run=replace(state.run, times_unknown=0)))
        return _retry(known, fetch_by, asked_at, now, wait_s)
    entered = collecting(attempt, state, fetch_by)
    return _retry_with_event(entered, "collecting", fetch_by, reason, asked_at, now, wait_s)


def unreadable(attempt: Attempt, found: Unreadable, now: datetime) -> Step:
    """The result of the finished run cannot be read: the attempt fails, and no other provider is paid for the job."""
    failure = Failure(FailureKind.OUTPUT_UNREADABLE, f"{found.reason}: {found.raw}")
    return failed(attempt, failure, now, cost_usd=attempt.price_usd)


def not_known(
    attempt: Attempt, state: Running | Cancelling | Collecting, reason: str, asked_at: datetime, now: datetime
) -> Step | None:
    """The provider reports the run as unknown: poll it again; None once it has done so often and the window is over."""
    fetch_by = window(attempt, state, now)
    if _decides(attempt, fetch_by, asked_at, now) and state.run.times_unknown >= TIMES_UNKNOWN:
        return None
    polled = replace(attempt, state=replace(state, fetch_by=fetch_by))
    if state.fetch_by is None:
        unknown = f"the provider does not know the run, which is polled again: {reason}"
        return _retry_with_event(polled, state.run.stage or "queued", fetch_by, unknown, asked_at, now)
    return _retry(polled, fetch_by, asked_at, now)


def lost(attempt: Attempt, failure: Failure, now: datetime) -> Step:
    """The window is over: fail, with a follow-up in which an output that becomes available is still stored."""
    follow_up = Fetching if attempt.files.outputs else Watching
    return failed(attempt, failure, now, cost_usd=attempt.price_usd, follow_up=follow_up)


def collect_failed(attempt: Attempt, before: Collecting, happened: CollectFailed, now: datetime) -> Step:
    """An output could not be stored: retry until the window is over, then end with those that are stored, if any."""
    failure, state = happened.failure, replace(before, files=with_progress(before.files, happened))
    attempt = replace(attempt, state=state)
    if happened.final:
        return failed(attempt, failure, now, cost_usd=attempt.price_usd)
    # A failure on our side is retried until the deadline, since no other provider is paid for it.
    ours = not FAILURES[failure.kind].moves_on and not state.files.stored
    until = attempt.deadline_at if ours else state.fetch_by
    if _decides(attempt, until, happened.asked_at, now):
        return partly(attempt, happened, now) if state.files.stored else lost(attempt, failure, now)
    if attempt.tries:
        return _retry(attempt, until, happened.asked_at, now)
    return _retry_with_event(attempt, "collecting", until, failure.message, happened.asked_at, now)


def with_progress(files: Files, happened: CollectFailed) -> Files:
    """The files after a failed collection. What earlier ones stored is kept, since a later one may store less."""
    stored = {**files.stored, **happened.stored}
    return replace(files, reached=files.reached | happened.reached, stored=stored)


def with_new_outputs(files: Files, outcome: CheckOutcome) -> Files:
    """The files with the outputs of the result as read again: links expire, and more outputs may be listed.

    The progress of an output is kept if its number still refers to the same file. A result with fewer outputs than
    before, or none, is ignored.
    """
    if not isinstance(outcome, Produced) or len(outcome.outputs) < len(files.outputs):
        return files
    pairs = enumerate(zip(files.outputs, outcome.outputs, strict=False), start=1)
    same = frozenset(n for n, (before, by_now) in pairs if _without_query(before) == _without_query(by_now))
    stored = {n: artifact for n, artifact in files.stored.items() if n in same}
    return Files(outcome.outputs, files.reached & same, stored)


def _without_query(output: Output) -> str:
    return output.url.partition("?")[0]


def partly(attempt: Attempt, happened: CollectFailed, now: datetime) -> Step:
    """Some outputs are stored and the others lost: the attempt succeeds, and its event lists the missing ones."""
    count, stored = len(attempt.files.outputs), attempt.files.stored
    without = [n for n in range(1, count + 1) if n not in stored]
    why = "; ".join(happened.missing.get(n, f"output {n}: {happened.failure.message}") for n in without)
    artifacts = tuple(artifact for _, artifact in sorted(stored.items()))
    return succeeded(attempt, artifacts, now, missing=f"{len(without)} of {count} outputs could not be had: {why}")


def _retry_with_event(
    attempt: Attempt,
    stage: Literal["queued", "running", "collecting"],
    until: datetime,
    reason: str,
    asked_at: datetime,
    now: datetime,
    wait_s: float | None = None,
) -> Step:
    again = _retry(attempt, until, asked_at, now, wait_s)
    return with_event(again.attempt, AttemptProgressed, now, stage=stage, message=reason)


def _retry(attempt: Attempt, until: datetime, asked_at: datetime, now: datetime, wait_s: float | None = None) -> Step:
    tries = attempt.tries + 1
    requested_s = min(wait_s or 0.0, LONGEST_WAIT_S)
    due = now + timedelta(seconds=max(backoff_s(attempt.attempt_id, tries), requested_s))
    if not _decides(attempt, until, asked_at, now):
        # The last try is begun at the end of the window, or at once if that has passed meanwhile.
        due = max(now, min(due, until))
    return Step(replace(attempt, tries=tries, next_action_at=due))


def _decides(attempt: Attempt, until: datetime, asked_at: datetime, now: datetime) -> bool:
    """Whether a try in vain ends the window until `until`: it was begun at its end, or the job's deadline has passed.

    How late it is recorded does not count: a result that was read too early may be there by now. After the deadline no
    other provider is paid.
    """
    return asked_at >= until or now >= attempt.deadline_at


def collected(attempt: Attempt, artifacts: tuple[Artifact, ...], now: datetime) -> Step:
    """Every output is in the artifact store."""
    stored = with_event(attempt, AttemptProgressed, now, stage="stored")
    done = succeeded(stored.attempt, artifacts, now)
    return replace(done, events=stored.events + done.events)
