"""The attempt: one try of one job at one provider, as a pure state machine.

    queued ──> submitting ──> running ──> collecting ──> succeeded
       │            │            ├────────────────────> failed(kind)
       │            │            └──> cancelling ─────> cancelled, failed(kind), collecting
       │            ├──> failed(kind)            definite refusal: nothing was billed
       │            ├──> queued                  never sent, or throttled: sending it again is safe
       │            └──> ambiguous ──> running, failed(kind)
       ├──> failed(expired) | cancelled          never sent
       └──> running                              sent after all, as the provider's callback shows

`step` is told what happened and says three things: the attempt as it is now, the events that say so, and the one action
to take. An action is taken only after the new state is committed, so a crash between any two effects leaves a row that
is due again. The one action that must not be taken twice, the POST, is given out only by the step from `queued` to
`submitting`; a `submitting` attempt that comes due again lost the worker that owned the POST, and is ambiguous.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal, assert_never

from adapter_kit.attempt.actions import Check, Collect
from adapter_kit.attempt.ambiguous import answer_lost, claim_checked, resolve, resolved, searched
from adapter_kit.attempt.backoff import backoff_s
from adapter_kit.attempt.cancelling import cancel_answered, run_unknown, watch_cancel
from adapter_kit.attempt.closed import step_late
from adapter_kit.attempt.collecting import (
    collect_failed,
    collected,
    named_anew,
    output_pending,
    window,
)
from adapter_kit.attempt.inputs import (
    CalledBack,
    CancelAnswered,
    CancelWanted,
    Checked,
    Collected,
    CollectFailed,
    CollectWanted,
    Due,
    HeldBack,
    Input,
    Resolved,
    Searched,
    ShutOut,
    SubmitAnswered,
)
from adapter_kit.attempt.model import (
    Attempt,
    Step,
    cancelled,
    with_lease,
)
from adapter_kit.attempt.running import accepted, progressed, run_over, watch
from adapter_kit.attempt.submitting import not_admitted, submit, submit_answered
from adapter_kit.port.outcomes import (
    CheckOutcome,
    Missing,
    NoAnswer,
    ProviderRef,
    Running,
    Waiting,
)


def step(attempt: Attempt, input_: Input, now: datetime) -> Step:  # noqa: C901 - one flat case for each input
    """The attempt after the input, the events to publish, and the action to take. Pure; raises nothing."""
    if attempt.final:
        return step_late(attempt, input_, now)
    match input_:
        case Due():
            return _due(attempt, now)
        case HeldBack() | ShutOut():
            return not_admitted(attempt, input_, now)
        case CancelWanted(reason):
            return _cancel_wanted(attempt, reason, now)
        case CalledBack(ref):
            return _called_back(attempt, ref, now)
        case SubmitAnswered(submission, outcome):
            return submit_answered(attempt, submission, outcome, now)
        case Checked():
            return _checked(attempt, input_, now)
        case CancelAnswered(outcome):
            return cancel_answered(attempt, outcome, now)
        case Searched(outcome):
            return searched(attempt, outcome, now)
        case Resolved():
            return resolved(attempt, input_, now)
        case Collected(artifacts):
            return collected(attempt, artifacts, now)
        case CollectFailed():
            return collect_failed(attempt, input_, now) if attempt.state == "collecting" else Step(attempt)
        case CollectWanted():
            return Step(attempt)  # Its output is still being fetched, or may still come.
        case _:
            assert_never(input_)


def _due(attempt: Attempt, now: datetime) -> Step:
    match attempt.state:
        case "queued":
            return submit(attempt, now)
        case "submitting":
            return answer_lost(attempt, "the process that sent the request died before it told of an answer", now)
        case "ambiguous":
            return resolve(attempt, now)
        case "running":
            return watch(attempt, now)
        case "collecting":
            # After a failed try the result is read anew: what it names may have expired, or have become more.
            first_try = bool(attempt.outputs) and not attempt.tries
            return Step(with_lease(attempt, now), action=Collect() if first_try else Check())
        case "cancelling":
            return watch_cancel(attempt, now)
        case "succeeded" | "failed" | "cancelled":
            return Step(attempt)
        case _:
            assert_never(attempt.state)


def _called_back(attempt: Attempt, ref: ProviderRef | None, now: datetime) -> Step:
    if is_foreign(attempt, ref):
        return Step(attempt)
    called = replace(attempt, called_back=True)
    match attempt.state:
        case "queued" | "submitting" | "ambiguous" if ref is not None:
            # Whatever the POST's own answer said, or will say: the run is there, and must not be sent again.
            entered = accepted(called, ref, now)
            return replace(entered, attempt=replace(entered.attempt, next_action_at=now))
        case "running" | "cancelling" | "ambiguous":
            return Step(replace(called, next_action_at=now))
        case _:
            return Step(attempt)


def is_foreign(attempt: Attempt, ref: ProviderRef | None) -> bool:
    """Whether `ref` names a run that cannot be the attempt's own, though it was made in its name: paid for twice."""
    if ref is None:
        return False
    return attempt.final if attempt.ref is None else attempt.ref.request_id != ref.request_id


def _checked(attempt: Attempt, checked: Checked, now: datetime) -> Step:
    if attempt.state == "ambiguous" and attempt.claim is not None:
        return claim_checked(attempt, attempt.claim, checked.outcome, now)
    if attempt.state == "collecting":
        seen = _result_read_anew if attempt.outputs else _finished_checked
        return seen(attempt, checked.outcome, now)
    if attempt.state not in ("running", "cancelling"):
        return Step(attempt)
    match checked.outcome:
        case Waiting(position):
            return progressed(attempt, "queued", position, now, callbacks_arrive=checked.callbacks_arrive)
        case Running():
            return progressed(attempt, "running", None, now, callbacks_arrive=checked.callbacks_arrive)
        case Missing(reason):
            return run_unknown(attempt, reason, now)
        case NoAnswer(reason, retry_after_s, finished=True):
            return output_pending(attempt, reason, now, wait_s=retry_after_s)
        case NoAnswer(_, retry_after_s):
            tries = attempt.tries + 1
            wait_s = min(max(retry_after_s or 0.0, backoff_s(attempt.attempt_id, tries)), 30.0)
            return Step(replace(attempt, tries=tries, next_action_at=now + timedelta(seconds=wait_s)))
        case over:
            return run_over(replace(attempt, fetch_by=None), over, now)


def _finished_checked(attempt: Attempt, outcome: CheckOutcome, now: datetime) -> Step:
    """The provider has said that the run finished, and its output is still waited for."""
    match outcome:
        case Waiting() | Running():
            return output_pending(attempt, "the provider no longer says that the run has finished", now)
        case NoAnswer(reason, retry_after_s):
            return output_pending(attempt, reason, now, wait_s=retry_after_s)
        case Missing(reason):
            return run_unknown(attempt, reason, now)
        case over:
            return run_over(attempt, over, now)


def _result_read_anew(attempt: Attempt, outcome: CheckOutcome, now: datetime) -> Step:
    """The outputs could not be fetched, and the result was read once more; they are tried again, whatever it says."""
    if not attempt.tries:
        return Step(attempt)  # A look from before they were known.
    return Step(with_lease(named_anew(attempt, outcome), now), action=Collect())


def _cancel_wanted(attempt: Attempt, reason: Literal["client", "deadline"], now: datetime) -> Step:
    match attempt.state:
        case "queued":
            return cancelled(replace(attempt, cancel_reason=reason), now, may_have_cost=False)
        case "submitting" | "ambiguous":
            return Step(replace(attempt, cancel_reason=reason))
        case "running":
            # Due at once, for the claim loop to act: the command handler only writes it down.
            return Step(replace(attempt, state="cancelling", cancel_reason=reason, tries=0, next_action_at=now))
        case "collecting":
            # The run is over and paid for: its output is still worth a short wait.
            ending = replace(attempt, cancel_reason=reason)
            shortest = window(replace(ending, fetch_by=None), now)
            return Step(replace(ending, fetch_by=min(shortest, window(attempt, now))))
        case _:
            return Step(attempt)
