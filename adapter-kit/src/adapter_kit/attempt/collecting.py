"""Collecting: for how long the output of a finished run is fetched before it counts as lost. Pure.

The run is paid for. One look at its result is no verdict: a file may appear a little later than the word that it is
there, and an answer of 404 may come from a replica that lags behind. Until the end of the fetching window the output is
asked for again, with growing pauses. Only then is it lost, and only then may another provider be paid.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal

from adapter_kit.attempt.actions import Collect
from adapter_kit.attempt.inputs import CollectFailed
from adapter_kit.attempt.model import (
    MISSING_TRIES,
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
"""The window's share of the time that the job has left; the rest is for the next provider."""
FETCH_AT_LEAST_S: Final = 30.0
"""The shortest window, in seconds, where the job has that much time left."""

LONGEST_WAIT_S: Final = 30.0
"""How long the provider may put off a question for a result, in seconds."""


def collecting(
    attempt: Attempt, state: Running | Cancelling | Collecting, fetch_by: datetime, outputs: tuple[Output, ...] = ()
) -> Attempt:
    """The attempt in `collecting`, with the outputs that the provider names."""
    entered = Collecting(state.run, fetch_by, Files(outputs), cancel_reason=state.cancel_reason)
    return replace(attempt, state=entered, tries=0)


def window(attempt: Attempt, state: Running | Cancelling | Collecting, now: datetime) -> datetime:
    """End of the fetching window; a new one begins `now` where there is none."""
    return new_window(attempt, state.cancel_reason, now) if state.fetch_by is None else state.fetch_by


def new_window(attempt: Attempt, cancel_reason: CancelReason | None, now: datetime) -> datetime:
    """End of a fetching window that begins `now`.

    It is half the time up to the job's deadline, or all of it where no other provider may be paid, and at most as long
    as the provider keeps the result. A job that is being cancelled waits for the shortest window only.
    """
    left_s = max(0.0, (attempt.deadline_at - now).total_seconds())
    if cancel_reason in ("client", "deadline"):
        share_s = FETCH_AT_LEAST_S
    else:
        share_s = left_s if attempt.lost_output_policy == "fail" else max(FETCH_AT_LEAST_S, left_s * FETCH_SHARE)
    return now + timedelta(seconds=min(left_s, share_s, attempt.results_kept_s))


def shorten_window(attempt: Attempt, state: Collecting, reason: CancelReason, now: datetime) -> Step:
    """The job is being cancelled: its run is over and paid for, and its output is worth a short wait."""
    fetch_by = min(new_window(attempt, reason, now), state.fetch_by)
    return Step(replace(attempt, state=replace(state, cancel_reason=reason, fetch_by=fetch_by)))


def output_pending(
    attempt: Attempt,
    state: Running | Cancelling | Collecting,
    reason: str,
    now: datetime,
    instead: tuple[Output, ...] = (),
    *,
    wait_s: float | None = None,
) -> Step:
    """The run finished, and its output is not there yet; what may stand for it is taken once the window is over.

    The provider may have asked to `wait_s` before the next question.
    """
    fetch_by = window(attempt, state, now)
    if now >= fetch_by:
        over = replace(state, run=replace(state.run, cancel_answered=True))  # There is nothing left to stop.
        if instead:
            taken = with_lease(collecting(attempt, over, fetch_by, instead), now)
            message = f"{reason}; what stands beside it is taken in its place"
            return with_event(taken, AttemptProgressed, now, Collect(), stage="collecting", message=message)
        return lost(replace(attempt, state=over), Failure(FailureKind.OUTPUT_LOST, reason), now)
    if isinstance(state, Collecting):
        return _again(attempt, fetch_by, now, wait_s)
    return _told_again(collecting(attempt, state, fetch_by), "collecting", fetch_by, reason, now, wait_s)


def unreadable(attempt: Attempt, found: Unreadable, now: datetime) -> Step:
    """The run finished with a result that Segue cannot read: nobody else is paid until a person has looked."""
    failure = Failure(FailureKind.OUTPUT_UNREADABLE, f"{found.reason}: {found.raw}")
    return failed(attempt, failure, now, cost_usd=attempt.price_usd)


def not_known(attempt: Attempt, state: Running | Cancelling | Collecting, reason: str, now: datetime) -> Step | None:
    """The provider does not know the run: it is asked again; None once the window is over."""
    fetch_by = window(attempt, state, now)
    if now >= fetch_by and attempt.tries + 1 >= MISSING_TRIES:
        return None
    asking = replace(attempt, state=replace(state, fetch_by=fetch_by))
    if state.fetch_by is None:
        unknown = f"the provider does not know the run, and is asked again: {reason}"
        return _told_again(asking, state.run.stage or "queued", fetch_by, unknown, now)
    return _again(asking, fetch_by, now)


def lost(attempt: Attempt, failure: Failure, now: datetime) -> Step:
    """The window is over. What the provider shows of the run later is still kept."""
    follow_up = Fetching if attempt.files.outputs else Watching
    return failed(attempt, failure, now, cost_usd=attempt.price_usd, follow_up=follow_up)


def collect_failed(attempt: Attempt, before: Collecting, happened: CollectFailed, now: datetime) -> Step:
    """An output could not be brought into the store; once the window is over, those that are there are kept."""
    failure, state = happened.failure, replace(before, files=noted(before.files, happened))
    attempt = replace(attempt, state=state)
    if happened.final:
        return failed(attempt, failure, now, cost_usd=attempt.price_usd)
    # What is ours to mend is tried up to the deadline, since nobody else is paid for it.
    ours = not FAILURES[failure.kind].moves_on and not state.files.stored
    until = attempt.deadline_at if ours else state.fetch_by
    if now >= until:
        return partly(attempt, happened, now) if state.files.stored else lost(attempt, failure, now)
    if attempt.tries:
        return _again(attempt, until, now)
    return _told_again(attempt, "collecting", until, failure.message, now)


def noted(files: Files, happened: CollectFailed) -> Files:
    """The files with those that this collection stored: a later one may store fewer."""
    stored = {**files.stored, **happened.stored}
    return replace(files, reached=files.reached | happened.reached, stored=stored)


def named_anew(files: Files, outcome: CheckOutcome) -> Files:
    """The files with the outputs that the result names by now: links expire, and files come late.

    What is known of an output stays known where its number stands for the same file. A result that names fewer, or
    none, is not believed.
    """
    if not isinstance(outcome, Produced) or len(outcome.outputs) < len(files.outputs):
        return files
    pairs = enumerate(zip(files.outputs, outcome.outputs, strict=False), start=1)
    same = frozenset(n for n, (before, by_now) in pairs if _file(before) == _file(by_now))
    stored = {n: artifact for n, artifact in files.stored.items() if n in same}
    return Files(outcome.outputs, files.reached & same, stored)


def _file(output: Output) -> str:
    return output.url.partition("?")[0]


def partly(attempt: Attempt, happened: CollectFailed, now: datetime) -> Step:
    """Some outputs are stored and the others lost: the attempt succeeds, and its event names those missing."""
    count, stored = len(attempt.files.outputs), attempt.files.stored
    without = [n for n in range(1, count + 1) if n not in stored]
    why = "; ".join(happened.missing.get(n, f"output {n}: {happened.failure.message}") for n in without)
    artifacts = tuple(artifact for _, artifact in sorted(stored.items()))
    return succeeded(attempt, artifacts, now, missing=f"{len(without)} of {count} outputs could not be had: {why}")


def _told_again(
    attempt: Attempt,
    stage: Literal["queued", "running", "collecting"],
    until: datetime,
    reason: str,
    now: datetime,
    wait_s: float | None = None,
) -> Step:
    again = _again(attempt, until, now, wait_s)
    return with_event(again.attempt, AttemptProgressed, now, stage=stage, message=reason)


def _again(attempt: Attempt, until: datetime, now: datetime, wait_s: float | None = None) -> Step:
    tries = attempt.tries + 1
    asked_s = min(wait_s or 0.0, LONGEST_WAIT_S)
    due = now + timedelta(seconds=max(backoff_s(attempt.attempt_id, tries), asked_s))
    # The last try is at the end of the window.
    return Step(replace(attempt, tries=tries, next_action_at=min(due, until) if now < until else due))


def collected(attempt: Attempt, artifacts: tuple[Artifact, ...], now: datetime) -> Step:
    """Every output is in the artifact store."""
    stored = with_event(attempt, AttemptProgressed, now, stage="stored")
    done = succeeded(stored.attempt, artifacts, now)
    return replace(done, events=stored.events + done.events)
