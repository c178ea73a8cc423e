"""The attempt: one try of one job at one provider, as a pure state machine.

    queued ──> submitting ──> running ──> collecting ──> succeeded
       │            │            ├────────────────────> failed(kind)
       │            │            └──> cancelling ─────> cancelled, failed(kind), collecting
       │            ├──> failed(kind)            definite refusal: nothing was billed
       │            ├──> queued                  never sent, or throttled: safe to send again
       │            └──> ambiguous ──> running, failed(kind)
       ├──> failed(expired) | cancelled          never sent
       └──> running                              a callback shows that the POST was accepted

A callback with the result leads from each of the first three to `collecting`.

`step` takes an input and returns the new attempt, the events to publish, and at most one action. The action is
performed after the new state is committed, so that after a crash at any point the row becomes due again. The POST is
the one action that must not be performed twice. Only the step from `queued` to `submitting` returns it. If a
`submitting` attempt becomes due, the worker that owned the POST has died, and the attempt becomes `ambiguous`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal, assert_never

from adapter_kit.attempt.actions import Check, Collect
from adapter_kit.attempt.ambiguous import answer_lost, claim_checked, resolve, resolved, searched
from adapter_kit.attempt.cancelling import cancel_answered, run_unknown, watch_cancel
from adapter_kit.attempt.closed import after_the_end
from adapter_kit.attempt.collecting import (
    collect_failed,
    collected,
    output_pending,
    shorten_window,
    with_new_outputs,
)
from adapter_kit.attempt.failing import noted
from adapter_kit.attempt.inputs import (
    CalledBack,
    CancelAnswered,
    CancelWanted,
    Checked,
    Collected,
    CollectFailed,
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
    backoff_s,
    cancelled,
    with_lease,
)
from adapter_kit.attempt.running import accepted, progressed, run_over, watch
from adapter_kit.attempt.states import (
    Ambiguous,
    Cancelling,
    Closed,
    Collecting,
    Live,
    Queued,
    Running,
    Submitting,
)
from adapter_kit.attempt.submitting import not_admitted, submit, submit_answered
from adapter_kit.port.outcomes import (
    CheckOutcome,
    Missing,
    NoAnswer,
    ProviderRef,
    Waiting,
)
from adapter_kit.port.outcomes import Running as AtWork


def step(attempt: Attempt, input_: Input, now: datetime) -> Step:
    """The attempt after the input, the events to publish, and the action to take. Pure; raises nothing."""
    if isinstance(input_, Checked) and not _is_known(attempt, input_.ref):
        return Step(attempt)
    return noted(attempt, input_, _step(attempt, input_, now), now)


def _step(attempt: Attempt, input_: Input, now: datetime) -> Step:  # noqa: C901 - one flat case for each input
    match attempt.state, input_:
        case Closed() as closed, _:
            return after_the_end(attempt, closed, input_, now)
        case state, Due():
            return _due(attempt, state, now)
        case state, CalledBack():
            return _called_back(attempt, state, input_, now)
        case state, CancelWanted(reason):
            return _cancel_wanted(attempt, state, reason, now)
        case state, Checked():
            return _checked(attempt, state, input_, now)
        case Queued(), HeldBack() | ShutOut():
            return not_admitted(attempt, input_, now)
        case (Submitting() | Ambiguous()) as state, SubmitAnswered():
            return submit_answered(attempt, state, input_, now)
        case Ambiguous() as state, Searched(outcome, asked_at):
            return searched(attempt, state, outcome, asked_at, now)
        case Ambiguous() as state, Resolved():
            return resolved(attempt, state, input_, now)
        case Cancelling() as state, CancelAnswered(outcome, asked_at):
            return cancel_answered(attempt, state, outcome, asked_at, now)
        case Collecting(), Collected(artifacts):
            return collected(attempt, artifacts, now)
        case Collecting() as state, CollectFailed():
            return collect_failed(attempt, state, input_, now)
        case _:
            return Step(attempt)  # A response to an action of an earlier state, or a request for output before the end.


def _due(attempt: Attempt, state: Live, now: datetime) -> Step:
    match state:
        case Queued():
            return submit(attempt, now)
        case Submitting():
            died = "the process that sent the request died before it recorded a response"
            return answer_lost(attempt, state, died, now)
        case Ambiguous():
            return resolve(attempt, state, now)
        case Running():
            return watch(attempt, state, now)
        case Collecting():
            # After a failure the result is read again: its links may have expired, or more outputs may be listed.
            first_try = bool(state.files.outputs) and not attempt.tries
            return Step(with_lease(attempt, now), action=Collect(now) if first_try else Check(state.run.ref, now))
        case Cancelling():
            return watch_cancel(attempt, state, now)
        case _:
            assert_never(state)


def _called_back(attempt: Attempt, state: Live, callback: CalledBack, now: datetime) -> Step:
    if is_foreign(attempt, callback.ref):
        return Step(attempt)
    called = replace(attempt, called_back=True)
    match state:
        case Queued() | Submitting() | Ambiguous() if callback.ref is not None:
            # The run exists, whatever the response to the POST was or will be, and must not be submitted again.
            entered = accepted(called, callback.ref, now)
            further = _step(entered.attempt, callback, now)
            return replace(further, events=(*entered.events, *further.events))
        case (Running() | Cancelling()) as state if callback.ref is not None and callback.result is not None:
            over = run_over(called, replace(state, fetch_by=None), callback.result, now, now)
            # Due at once: the command handler performs no actions, the claim loop does.
            return Step(replace(over.attempt, next_action_at=now), over.events)
        case Running() as state if callback.ref is not None and callback.at_work:
            if state.run.started_at is not None or state.fetch_by is not None:
                return Step(called)
            if attempt.next_action_at is not None and attempt.next_action_at <= now:
                # The callback of its end may have been read first: the check that is due says whether it still runs.
                return Step(replace(called, state=replace(state, run=replace(state.run, started_at=now))))
            return progressed(called, state, "running", None, now, callbacks_arrive=True)
        case Running() | Cancelling() | Ambiguous():
            return Step(replace(called, next_action_at=now))
        case _:
            return Step(attempt)


def is_foreign(attempt: Attempt, ref: ProviderRef | None) -> bool:
    """Whether `ref` is a run other than the attempt's own, though created for it, so that two runs may be billed."""
    if ref is None:
        return False
    return attempt.final if attempt.ref is None else attempt.ref.request_id != ref.request_id


def _is_known(attempt: Attempt, ref: ProviderRef) -> bool:
    """Whether `ref` is the attempt's run, or the one that an operator says is; they may have named another before."""
    return ref.request_id in {known.request_id for known in (attempt.ref, attempt.claim) if known is not None}


def _checked(attempt: Attempt, state: Live, checked: Checked, now: datetime) -> Step:
    match state:
        case Ambiguous(claim=ProviderRef() as claim):
            return claim_checked(attempt, state, claim, checked.outcome, now)
        case Collecting() if state.files.outputs:
            return _result_read_again(attempt, state, checked.outcome, now)
        case Collecting():
            return _finished_checked(attempt, state, checked.outcome, checked.asked_at, now)
        case Running() | Cancelling():
            return _run_checked(attempt, state, checked, now)
        case _:
            return Step(attempt)


def _run_checked(attempt: Attempt, state: Running | Cancelling, checked: Checked, now: datetime) -> Step:
    match checked.outcome:
        case Waiting(position):
            return progressed(attempt, state, "queued", position, now, callbacks_arrive=checked.callbacks_arrive)
        case AtWork():
            return progressed(attempt, state, "running", None, now, callbacks_arrive=checked.callbacks_arrive)
        case Missing(reason):
            return run_unknown(attempt, state, reason, checked.asked_at, now)
        case NoAnswer(reason, retry_after_s, finished=True):
            return output_pending(attempt, state, reason, checked.asked_at, now, wait_s=retry_after_s)
        case NoAnswer(_, retry_after_s):
            tries = attempt.tries + 1
            wait_s = min(max(retry_after_s or 0.0, backoff_s(attempt.attempt_id, tries)), 30.0)
            return Step(replace(attempt, tries=tries, next_action_at=now + timedelta(seconds=wait_s)))
        case over:
            return run_over(attempt, replace(state, fetch_by=None), over, checked.asked_at, now)


def _finished_checked(
    attempt: Attempt, state: Collecting, outcome: CheckOutcome, asked_at: datetime, now: datetime
) -> Step:
    """The status of a run that has finished, but has no output yet."""
    match outcome:
        case Waiting() | AtWork():
            runs_again = "the provider no longer reports the run as finished"
            return output_pending(attempt, state, runs_again, asked_at, now)
        case NoAnswer(reason, retry_after_s):
            return output_pending(attempt, state, reason, asked_at, now, wait_s=retry_after_s)
        case Missing(reason):
            return run_unknown(attempt, state, reason, asked_at, now)
        case over:
            return run_over(attempt, state, over, asked_at, now)


def _result_read_again(attempt: Attempt, state: Collecting, outcome: CheckOutcome, now: datetime) -> Step:
    """The result was read again after outputs could not be fetched; they are fetched again, whatever the status is."""
    if not attempt.tries:
        return Step(attempt)  # The check was sent before the outputs were known.
    anew = replace(attempt, state=replace(state, files=with_new_outputs(state.files, outcome)))
    return Step(with_lease(anew, now), action=Collect(now))


def _cancel_wanted(attempt: Attempt, state: Live, reason: Literal["client", "deadline"], now: datetime) -> Step:
    match state:
        case Queued():
            return cancelled(attempt, now, may_have_cost=False, reason=reason)
        case Submitting() | Ambiguous():
            return Step(replace(attempt, state=replace(state, cancel_reason=reason)))
        case Running():
            # Due at once: the command handler performs no actions, the claim loop does.
            cancelling = Cancelling(state.run, reason, fetch_by=state.fetch_by)
            return Step(replace(attempt, state=cancelling, tries=0, next_action_at=now))
        case Collecting():
            return shorten_window(attempt, state, reason, now)
        case Cancelling():
            return Step(attempt)
        case _:
            assert_never(state)
