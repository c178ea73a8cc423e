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
`submitting`; a `submitting` attempt that comes due again has lost its poster, and is ambiguous.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal, assert_never

from adapter_kit.attempt.actions import Cancel, Check, Collect, Post, Search
from adapter_kit.attempt.backoff import backoff_s, next_look_s, poll_interval_s
from adapter_kit.attempt.fetch_window import (
    collect_failed,
    lost,
    named_anew,
    not_known,
    output_pending,
    unreadable,
    window,
)
from adapter_kit.attempt.follow_up import NO_RUN, SAID_SO, is_outdated, step_late
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
    MISSING_TRIES,
    Attempt,
    CancelReason,
    FollowUp,
    Step,
    cancelled,
    failed,
    reschedule,
    succeeded,
    with_event,
    with_lease,
)
from adapter_kit.attempt.resolution import listing_answered, proven_absent_at
from adapter_kit.port.outcomes import (
    Accepted,
    AlreadyOver,
    Broken,
    CallbackRefused,
    CancelOutcome,
    CancelPending,
    CheckOutcome,
    Failure,
    FindOutcome,
    Found,
    Missing,
    NoAnswer,
    NotFound,
    NotSent,
    OutputPending,
    Produced,
    ProviderRef,
    Refused,
    Running,
    Stopped,
    SubmitOutcome,
    Throttled,
    Unclear,
    Unreadable,
    Waiting,
)
from contracts.failures import FailureKind
from contracts.messages.attempts import (
    Artifact,
    AttemptAmbiguous,
    AttemptProgressed,
    AttemptSubmitted,
    AttemptSubmitting,
)

NOT_SENT_TRIES: Final = 3
LONGEST_QUEUE: Final = 1_000_000
LONGEST_RETRY_S: Final = 86_400.0
THROTTLE_BUDGET_S: Final = 20.0
"""How long an attempt lets itself be put off before the next provider is the better choice."""
LAST_LOOK_S: Final = 20.0
"""How long after the grace the listing may still be asked the one time that settles it."""
CANCEL_WATCH_S: Final = 60.0
"""How long after its cancel, and at least up to the deadline, the job waits to hear how its run ended."""


def step(attempt: Attempt, input_: Input, now: datetime) -> Step:  # noqa: C901 - one flat case a input_
    """The attempt after `happening`, with what to publish and what to do. Pure; raises nothing."""
    if attempt.final:
        return step_late(attempt, input_, now)
    match input_:
        case Due():
            return _due(attempt, now)
        case HeldBack() | ShutOut():
            return _not_admitted(attempt, input_, now)
        case CancelWanted(reason):
            return _cancel_wanted(attempt, reason, now)
        case CalledBack(ref):
            return _called_back(attempt, ref, now)
        case SubmitAnswered(submission, outcome):
            return _submit_answered(attempt, submission, outcome, now)
        case Checked():
            return _checked(attempt, input_, now)
        case CancelAnswered(outcome):
            return _cancel_answered(attempt, outcome, now)
        case Searched(outcome):
            return _searched(attempt, outcome, now)
        case Resolved():
            return _resolved(attempt, input_, now)
        case Collected(artifacts):
            return _collected(attempt, artifacts, now)
        case CollectFailed():
            return collect_failed(attempt, input_, now) if attempt.state == "collecting" else Step(attempt)
        case CollectWanted():
            return Step(attempt)  # Its output is still being fetched, or may still come.
        case _:
            assert_never(input_)


def _due(attempt: Attempt, now: datetime) -> Step:
    match attempt.state:
        case "queued":
            return _submit(attempt, now)
        case "submitting":
            return _ambiguous(attempt, "the process that sent the request died before it told of an answer", now)
        case "ambiguous":
            return _resolve(attempt, now)
        case "running":
            return _watch(attempt, now)
        case "collecting":
            # After a failed try the result is read anew: what it names may have expired, or have become more.
            first_try = bool(attempt.outputs) and not attempt.tries
            return Step(with_lease(attempt, now), action=Collect() if first_try else Check())
        case "cancelling":
            return _watch_cancel(attempt, now)
        case "succeeded" | "failed" | "cancelled":
            return Step(attempt)
        case _:
            assert_never(attempt.state)


def _submit(attempt: Attempt, now: datetime) -> Step:
    if now >= attempt.deadline_at:
        return failed(attempt, Failure(FailureKind.EXPIRED, "the job's deadline passed before it was sent"), now)
    submission = attempt.submissions + 1
    submitting = replace(
        attempt,
        state="submitting",
        submissions=submission,
        submit_started_at=now,
        submit_answered_at=None,
    )
    return with_event(with_lease(submitting, now), AttemptSubmitting, now, Post(submission))


def _not_admitted(attempt: Attempt, verdict: HeldBack | ShutOut, now: datetime) -> Step:
    if attempt.state != "queued":
        return Step(attempt)
    if isinstance(verdict, ShutOut):
        asked = "not asked again" if attempt.submissions else "not asked"
        shut_out = Failure(FailureKind.UNAVAILABLE, f"{asked}, since it said before: {verdict.reason}")
        return failed(attempt, shut_out, now, retry_at=verdict.until)
    if now >= attempt.created_at + timedelta(seconds=attempt.start_within_s):
        waited = Failure(FailureKind.RATE_LIMITED, f"not sent within {attempt.start_within_s:g} s: {verdict.reason}")
        return failed(attempt, waited, now)
    give_up_at = attempt.created_at + timedelta(seconds=attempt.start_within_s)
    held = replace(attempt, next_action_at=min(verdict.until, give_up_at, attempt.deadline_at), held_back=True)
    if attempt.held_back:
        return Step(held)
    return with_event(held, AttemptProgressed, now, stage="throttled", message=verdict.reason)


def _submit_answered(attempt: Attempt, submission: int, outcome: SubmitOutcome, now: datetime) -> Step:
    if attempt.state not in ("submitting", "ambiguous") or submission != attempt.submissions:
        return Step(attempt)
    match outcome:
        case Accepted(ref):
            return _accepted(attempt, ref, now)
        case Refused(failure):
            return failed(attempt, failure, now)
        case Throttled(failure, retry_after_s):
            return _throttled(attempt, failure, retry_after_s, now)
        case NotSent(reason, held_up):
            return _not_sent(attempt, reason, now, held_up=held_up)
        case CallbackRefused(failure):
            return _without_callback(attempt, failure, now)
        case Unclear() if attempt.state == "ambiguous":
            return Step(attempt)
        case Unclear(reason, answered):
            return _ambiguous(replace(attempt, submit_answered_at=now if answered else None), reason, now)
        case _:
            assert_never(outcome)


def _accepted(attempt: Attempt, ref: ProviderRef, now: datetime) -> Step:
    running = replace(attempt, ref=ref, accepted_at=now, tries=0, resolve_by=None)
    if attempt.cancel_reason is not None:
        return with_event(replace(running, state="cancelling", next_action_at=now), AttemptSubmitted, now)
    due = now + timedelta(seconds=poll_interval_s(0))
    return with_event(replace(running, state="running", next_action_at=due), AttemptSubmitted, now)


def _called_back(attempt: Attempt, ref: ProviderRef | None, now: datetime) -> Step:
    if is_foreign(attempt, ref):
        return Step(attempt)
    called = replace(attempt, called_back=True)
    match attempt.state:
        case "queued" | "submitting" | "ambiguous" if ref is not None:
            # Whatever the POST's own answer said, or will say: the run is there, and must not be sent again.
            accepted = _accepted(called, ref, now)
            return replace(accepted, attempt=replace(accepted.attempt, next_action_at=now))
        case "running" | "cancelling" | "ambiguous":
            return Step(replace(called, next_action_at=now))
        case _:
            return Step(attempt)


def is_foreign(attempt: Attempt, ref: ProviderRef | None) -> bool:
    """Whether `ref` names a run that cannot be the attempt's own, though it was made in its name: paid for twice."""
    if ref is None:
        return False
    return attempt.final if attempt.ref is None else attempt.ref.request_id != ref.request_id


def _throttled(attempt: Attempt, failure: Failure, retry_after_s: float | None, now: datetime) -> Step:
    tries = attempt.tries + 1
    wait_s = retry_after_s if retry_after_s is not None else backoff_s(attempt.attempt_id, tries)
    again = now + timedelta(seconds=min(wait_s, LONGEST_RETRY_S))
    if again > min(attempt.created_at + timedelta(seconds=THROTTLE_BUDGET_S), attempt.deadline_at):
        return failed(attempt, replace(failure, kind=FailureKind.RATE_LIMITED), now)
    return _back_to_queue(attempt, tries, again, "throttled", failure.message, now)


def _without_callback(attempt: Attempt, failure: Failure, now: datetime) -> Step:
    """It is sent again, without the address that the provider would not have; once, for then there is none."""
    if not attempt.expects_callback:
        return failed(attempt, failure, now)
    message = f"{attempt.provider} would not take our address for callbacks; sent again without one: {failure.message}"
    polled = replace(attempt, expects_callback=False)
    return _back_to_queue(polled, attempt.tries, now, "throttled", message, now)


def _not_sent(attempt: Attempt, reason: str, now: datetime, *, held_up: bool) -> Step:
    tries = attempt.tries + (0 if held_up else 1)
    if tries >= NOT_SENT_TRIES:
        return failed(attempt, Failure(FailureKind.UNREACHABLE, reason), now)
    again = now + timedelta(seconds=backoff_s(attempt.attempt_id, tries) / 4)
    return _back_to_queue(attempt, tries, again, "unreachable", reason, now)


def _back_to_queue(
    attempt: Attempt,
    tries: int,
    again: datetime,
    stage: Literal["throttled", "unreachable"],
    message: str,
    now: datetime,
) -> Step:
    if attempt.cancel_reason is not None:
        return cancelled(attempt, now, may_have_cost=False)
    queued = replace(attempt, state="queued", tries=tries, next_action_at=again, resolve_by=None)
    return with_event(queued, AttemptProgressed, now, stage=stage, message=message)


def _ambiguous(attempt: Attempt, reason: str, now: datetime) -> Step:
    resolve_by = now + timedelta(seconds=attempt.grace_s)
    ambiguous = replace(
        attempt,
        state="ambiguous",
        resolve_by=resolve_by,
        claim=None,
        heard_at=now,
        deaf_s=0.0,
        tries=0,
        next_action_at=min(now + timedelta(seconds=1), resolve_by),
    )
    return with_event(ambiguous, AttemptAmbiguous, now, message=reason, resolve_by=resolve_by)


def _ambiguous_still(attempt: Attempt, reason: str, now: datetime) -> Step:
    due = replace(attempt, next_action_at=now + timedelta(seconds=1))
    return with_event(due, AttemptAmbiguous, now, message=reason, resolve_by=attempt.resolve_by or now)


def _resolve(attempt: Attempt, now: datetime) -> Step:
    if now >= _held_until(attempt, now):
        held = Failure(FailureKind.AMBIGUOUS_SUBMISSION, _LOOK_FOR_IT)
        if attempt.claim is None:
            return failed(attempt, held, now, follow_up="search")
        # An operator's word that came in the last moment is still looked into.
        return failed(replace(attempt, cancel_answered=True), held, now, follow_up="watch")
    return Step(with_lease(attempt, now), action=Search() if attempt.claim is None else Check())


def _held_until(attempt: Attempt, now: datetime) -> datetime:
    if attempt.ambiguity_policy == "hold":
        return attempt.deadline_at
    return min(attempt.deadline_at, (attempt.resolve_by or now) + timedelta(seconds=LAST_LOOK_S))


_LOOK_FOR_IT: Final = (
    "the answer to the submit was lost, and the provider's listing has not settled yet whether it was accepted; "
    "Segue goes on looking; whoever finds the run at the provider can tell with `segue attempts resolve`"
)


def _searched(attempt: Attempt, outcome: FindOutcome, now: datetime) -> Step:
    if attempt.state != "ambiguous":
        return Step(attempt)
    match outcome:
        case Found(ref):
            return _accepted(attempt, ref, now)
        case NotFound(conclusive):
            return _not_listed(listing_answered(attempt, now), proven_absent_at(attempt, conclusive=conclusive), now)
        case NoAnswer():
            # Without the listing silence says nothing: the window stays open up to the job's deadline.
            return _listen_again(attempt, _held_until(attempt, now), now)
        case _:
            assert_never(outcome)


def _not_listed(attempt: Attempt, proven_absent_at: datetime | None, now: datetime) -> Step:
    if proven_absent_at is not None and now >= proven_absent_at:
        return failed(attempt, Failure(FailureKind.NEVER_ACCEPTED, NO_RUN), now)
    # The moment in which silence becomes an answer is a good one to listen.
    return _listen_again(attempt, min(proven_absent_at or now, _held_until(attempt, now)), now)


def _listen_again(attempt: Attempt, at_last: datetime, now: datetime) -> Step:
    again = reschedule(attempt, now, most_s=15.0).attempt
    if again.next_action_at is None or not now < at_last < again.next_action_at:
        return Step(again)
    return Step(replace(again, next_action_at=at_last))


def _resolved(attempt: Attempt, verdict: Resolved, now: datetime) -> Step:
    if attempt.state != "ambiguous" or is_outdated(verdict, attempt):
        return Step(attempt)
    ref = verdict.ref
    if ref is None:
        return failed(attempt, Failure(FailureKind.NEVER_ACCEPTED, SAID_SO), now)
    return Step(replace(attempt, claim=ref, next_action_at=now))


def _claim_checked(attempt: Attempt, claim: ProviderRef, outcome: CheckOutcome, now: datetime) -> Step:
    """Believe an operator once the provider knows the run; a slip of the pen must not cost anything."""
    match outcome:
        case Missing():
            wrong = f"the provider does not know the run {claim.request_id}, which an operator named"
            return _ambiguous_still(replace(attempt, claim=None), wrong, now)
        case NoAnswer(finished=False):
            return reschedule(attempt, now, most_s=15.0)
        case _:
            accepted = _accepted(replace(attempt, claim=None), claim, now)
            return replace(accepted, attempt=replace(accepted.attempt, next_action_at=now))


def _watch(attempt: Attempt, now: datetime) -> Step:
    if (reason := _overdue(attempt, now)) is not None:
        return _cancelling(attempt, reason, now)
    return Step(with_lease(attempt, now), action=Check())


def _overdue(attempt: Attempt, now: datetime) -> CancelReason | None:
    accepted_at = attempt.accepted_at or now
    if now >= attempt.deadline_at:
        return "deadline"
    if attempt.started_at is None:
        late = now >= accepted_at + timedelta(seconds=attempt.start_within_s)
        return "start_timeout" if late else None
    return "run_timeout" if now >= attempt.started_at + timedelta(seconds=attempt.run_within_s) else None


def _cancelling(attempt: Attempt, reason: CancelReason, now: datetime) -> Step:
    cancelling = replace(attempt, state="cancelling", cancel_reason=reason, cancel_sent_at=now, tries=0)
    return Step(with_lease(cancelling, now), action=Cancel())


def _checked(attempt: Attempt, checked: Checked, now: datetime) -> Step:
    if attempt.state == "ambiguous" and attempt.claim is not None:
        return _claim_checked(attempt, attempt.claim, checked.outcome, now)
    if attempt.state == "collecting":
        seen = _result_read_anew if attempt.outputs else _finished_checked
        return seen(attempt, checked.outcome, now)
    if attempt.state not in ("running", "cancelling"):
        return Step(attempt)
    match checked.outcome:
        case Waiting(position):
            return _progressed(attempt, "queued", position, now, callbacks_arrive=checked.callbacks_arrive)
        case Running():
            return _progressed(attempt, "running", None, now, callbacks_arrive=checked.callbacks_arrive)
        case Missing(reason):
            return _missing(attempt, reason, now)
        case NoAnswer(reason, retry_after_s, finished=True):
            return output_pending(attempt, reason, now, wait_s=retry_after_s)
        case NoAnswer(_, retry_after_s):
            tries = attempt.tries + 1
            wait_s = min(max(retry_after_s or 0.0, backoff_s(attempt.attempt_id, tries)), 30.0)
            return Step(replace(attempt, tries=tries, next_action_at=now + timedelta(seconds=wait_s)))
        case over:
            return _run_over(replace(attempt, fetch_by=None), over, now)


def _finished_checked(attempt: Attempt, outcome: CheckOutcome, now: datetime) -> Step:
    """The provider has said that the run finished, and its output is still waited for."""
    match outcome:
        case Waiting() | Running():
            return output_pending(attempt, "the provider no longer says that the run has finished", now)
        case NoAnswer(reason, retry_after_s):
            return output_pending(attempt, reason, now, wait_s=retry_after_s)
        case Missing(reason):
            return _missing(attempt, reason, now)
        case over:
            return _run_over(attempt, over, now)


def _result_read_anew(attempt: Attempt, outcome: CheckOutcome, now: datetime) -> Step:
    """The outputs could not be fetched, and the result was read once more; they are tried again, whatever it says."""
    if not attempt.tries:
        return Step(attempt)  # A look from before they were known.
    return Step(with_lease(named_anew(attempt, outcome), now), action=Collect())


def _run_over(
    attempt: Attempt, outcome: Produced | OutputPending | Unreadable | Broken | Stopped, now: datetime
) -> Step:
    match outcome:
        case Produced(outputs):
            collecting = replace(attempt, state="collecting", outputs=outputs, fetch_by=window(attempt, now), tries=0)
            return with_event(with_lease(collecting, now), AttemptProgressed, now, Collect(), stage="collecting")
        case OutputPending(reason, instead):
            return output_pending(attempt, reason, now, instead)
        case Unreadable():
            return unreadable(attempt, outcome, now)
        case Broken(failure, may_have_cost):
            return failed(attempt, failure, now, cost_usd=attempt.price_usd if may_have_cost else 0.0)
        case Stopped(may_have_cost):
            return _stopped(attempt, may_have_cost=may_have_cost, now=now)
        case _:
            assert_never(outcome)


def _progressed(
    attempt: Attempt,
    stage: Literal["queued", "running"],
    position: int | None,
    now: datetime,
    *,
    callbacks_arrive: bool,
) -> Step:
    position = None if position is None else min(max(position, 0), LONGEST_QUEUE)
    moved = replace(
        attempt,
        stage=stage,
        queue_position=position,
        started_at=attempt.started_at or (now if stage == "running" else None),
        fetch_by=None,
        tries=0,
    )
    age_s = (now - (attempt.accepted_at or now)).total_seconds()
    start_left_s = attempt.start_within_s - age_s if moved.started_at is None else None
    wait_s = next_look_s(age_s, start_left_s, backstop=callbacks_arrive and attempt.expects_callback)
    moved = replace(moved, next_action_at=now + timedelta(seconds=wait_s))
    if (attempt.stage, attempt.queue_position) == (stage, position):
        return Step(moved)
    return with_event(moved, AttemptProgressed, now, stage=stage, queue_position=position)


def _missing(attempt: Attempt, reason: str, now: datetime) -> Step:
    """A provider that does not know a run it accepted says nothing about how that ended: it is asked again."""
    cancelling = attempt.state == "cancelling"
    # Where nobody else will be paid, its word is believed sooner; a promise to stop a run is none that it has stopped.
    harmless = cancelling and attempt.cancel_reason in ("client", "deadline")
    if harmless and attempt.tries + 1 >= MISSING_TRIES:
        return _stopped(attempt, may_have_cost=True, now=now, follow_up="watch")
    if (again := not_known(attempt, reason, now)) is not None:
        return again
    if cancelling:
        return _stopped(attempt, may_have_cost=True, now=now, follow_up="watch")
    return lost(attempt, Failure(FailureKind.OUTPUT_LOST, reason), now)


def _stopped(attempt: Attempt, *, may_have_cost: bool, now: datetime, follow_up: FollowUp | None = None) -> Step:
    match attempt.cancel_reason:
        case "client" | "deadline":
            return cancelled(attempt, now, may_have_cost=may_have_cost, follow_up=follow_up)
        case "start_timeout":
            failure = Failure(FailureKind.START_TIMEOUT, f"not started within {attempt.start_within_s:g} s")
        case "run_timeout":
            failure = Failure(FailureKind.RUN_TIMEOUT, f"not finished within {attempt.run_within_s:g} s")
        case None if now >= _longest(attempt, now):
            failure = Failure(FailureKind.RUN_TIMEOUT, "the provider stopped it at the end of the time it was given")
        case None if attempt.started_at is None and not may_have_cost:
            failure = Failure(FailureKind.START_TIMEOUT, "the provider dropped the run before it started")
        case None:
            failure = Failure(FailureKind.CANCELLED_BY_PROVIDER, "the provider stopped the run")
        case _:
            assert_never(attempt.cancel_reason)
    cost_usd = attempt.price_usd if may_have_cost else 0.0
    return failed(attempt, failure, now, cost_usd=cost_usd, follow_up=follow_up)


def _longest(attempt: Attempt, now: datetime) -> datetime:
    return (attempt.accepted_at or now) + timedelta(seconds=attempt.start_within_s + attempt.run_within_s)


def _cancel_wanted(attempt: Attempt, reason: Literal["client", "deadline"], now: datetime) -> Step:
    match attempt.state:
        case "queued":
            return cancelled(replace(attempt, cancel_reason=reason), now, may_have_cost=False)
        case "submitting" | "ambiguous":
            return Step(replace(attempt, cancel_reason=reason))
        case "running":
            # Due at once, for the driver to act: who tells of the wish only writes it down.
            return Step(replace(attempt, state="cancelling", cancel_reason=reason, tries=0, next_action_at=now))
        case "collecting":
            # The run is over and paid for: its output is still worth a short wait.
            ending = replace(attempt, cancel_reason=reason)
            shortest = window(replace(ending, fetch_by=None), now)
            return Step(replace(ending, fetch_by=min(shortest, window(attempt, now))))
        case _:
            return Step(attempt)


def _watch_cancel(attempt: Attempt, now: datetime) -> Step:
    sent_at = attempt.cancel_sent_at or now
    # Up to the deadline only the provider's word ends it: a run that may still deliver is no reason to buy another.
    if now >= max(sent_at + timedelta(seconds=CANCEL_WATCH_S), attempt.deadline_at):
        return _stopped(attempt, may_have_cost=True, now=now, follow_up="watch")
    if not attempt.cancel_answered and attempt.tries % 2 == 0:
        # It may have been sent before, by a process that died of it; a second one does no harm.
        return Step(with_lease(replace(attempt, cancel_sent_at=sent_at), now), action=Cancel())
    return Step(with_lease(attempt, now), action=Check())


def _cancel_answered(attempt: Attempt, outcome: CancelOutcome, now: datetime) -> Step:
    if attempt.state != "cancelling":
        return Step(attempt)
    match outcome:
        case Stopped(may_have_cost):
            return _stopped(attempt, may_have_cost=may_have_cost, now=now)
        case CancelPending():
            noted = replace(attempt, tries=0, cancel_answered=True)
            return Step(replace(noted, next_action_at=now + timedelta(seconds=1)))
        case AlreadyOver():
            return Step(with_lease(replace(attempt, tries=0, cancel_answered=True), now), action=Check())
        case Missing(reason):
            return _missing(attempt, reason, now)
        case NoAnswer():
            return reschedule(attempt, now, most_s=30.0)
        case _:
            assert_never(outcome)


def _collected(attempt: Attempt, artifacts: tuple[Artifact, ...], now: datetime) -> Step:
    if attempt.state != "collecting":
        return Step(attempt)
    stored = with_event(attempt, AttemptProgressed, now, stage="stored")
    done = succeeded(stored.attempt, artifacts, now)
    return replace(done, events=stored.events + done.events)
