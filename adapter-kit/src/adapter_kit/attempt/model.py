"""The attempt as a record, and the shapes that every step of it takes.

What may happen to it is in the module of its state, while its job waits for it, and in `closed`, once it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from pydantic import JsonValue

from adapter_kit.attempt.actions import Action
from adapter_kit.attempt.backoff import backoff_s
from adapter_kit.port.outcomes import Failure, Output, ProviderRef
from contracts.failures import FAILURES, FailureKind
from contracts.generation import AmbiguityPolicy, LostOutputPolicy, Modality, Provider
from contracts.ids import AttemptId, JobId, TrackId
from contracts.messages.attempts import (
    Artifact,
    AttemptCancelled,
    AttemptEvent,
    AttemptFailed,
    AttemptState,
    AttemptSucceeded,
)

FINAL: Final[frozenset[AttemptState]] = frozenset({"succeeded", "failed", "cancelled"})

LEASE_S: Final = 15.0
"""Lease duration in seconds. The holder renews it; when it ends, another replica takes over."""
FOLLOW_UP_S: Final = 3_600.0
"""How long an attempt that ended without its provider's last word is looked after."""
FOLLOW_UP_FIRST_S: Final = 5.0
MISSING_TRIES: Final = 4
"""How often in a row the provider has to say that it does not know a run, before that is believed."""
CancelReason = Literal["client", "deadline", "start_timeout", "run_timeout"]
FollowUp = Literal["search", "watch", "collect"]
"""What is still being done about an attempt that has ended: to find its run, learn how it ends, fetch its outputs."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Everything Segue knows about one attempt. Times are aware; durations are seconds; money is USD."""

    attempt_id: AttemptId
    job_id: JobId
    track_id: TrackId
    n: int
    provider: Provider
    model: str
    endpoint: str
    modality: Modality
    arguments: Mapping[str, JsonValue]
    price_usd: float | None
    deadline_at: datetime
    submit_timeout_s: float
    start_within_s: float
    run_within_s: float
    grace_s: float
    created_at: datetime
    ambiguity_policy: AmbiguityPolicy = "hold"
    lost_output_policy: LostOutputPolicy = "retry_elsewhere"
    results_kept_s: float = 3_600.0
    """How long the provider keeps the result of a finished run."""
    expects_callback: bool = False
    """The provider is told where to call back."""
    called_back: bool = False
    state: AttemptState = "queued"
    version: int = 0
    """How many events the attempt has had."""
    next_action_at: datetime | None = None
    """When it is due again; None only where it is final."""
    submissions: int = 0
    """How many times it went from queued to submitting."""
    submit_started_at: datetime | None = None
    submit_answered_at: datetime | None = None
    """When the provider itself answered a submit, in words that leave open whether it accepted it."""
    accepted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    ref: ProviderRef | None = None
    claim: ProviderRef | None = None
    """The run that an operator says it is, until the provider says that it knows it."""
    outputs: tuple[Output, ...] = ()
    reached: frozenset[int] = frozenset()
    """Outputs, by their numbers from 1 on, whose hosts could ever be connected to."""
    stored: Mapping[int, Artifact] = field(default_factory=dict)
    """What came of the outputs that are in the store, while others are not."""
    fetch_by: datetime | None = None
    """End of the window for fetching the output, since the provider first said that the run finished, or is unknown."""
    stage: Literal["queued", "running"] | None = None
    queue_position: int | None = None
    tries: int = 0
    """How many times in a row the current step has gone wrong."""
    resolve_by: datetime | None = None
    """Resolution deadline of a lost submit, listing downtime not counted."""
    listing_answered_at: datetime | None = None
    """When the listing last answered about it."""
    listing_downtime_s: float = 0.0
    """For how long the listing gave no answer, by which the wait for it is longer."""
    cancel_reason: CancelReason | None = None
    cancel_sent_at: datetime | None = None
    cancel_answered: bool = False
    """The provider has answered the cancel, so that what is left is to see how the run ends."""
    failure: Failure | None = None
    throttling_reported: bool = False
    """Throttling has already been reported."""
    unsettled: bool = False
    """It ended without its provider's last word: what shows itself later still counts, though not for its job."""
    follow_up: FollowUp | None = None
    follow_up_until: datetime | None = None

    @property
    def final(self) -> bool:
        """Whether it is over."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Step:
    """The result of a step: the attempt after it, the events to publish, and at most one action."""

    attempt: Attempt
    events: tuple[AttemptEvent, ...] = ()
    action: Action | None = None


def failed(
    attempt: Attempt,
    failure: Failure,
    now: datetime,
    *,
    cost_usd: float | None = None,
    retry_at: datetime | None = None,
    follow_up: FollowUp | None = None,
) -> Step:
    """It ended without a result; `cost_usd` counts only where it was accepted. A `follow_up` goes on after that."""
    status = failure.http_status
    failure = replace(
        failure,
        message=_storable(failure.message),
        code=_storable(failure.code or "")[:200] or None,
        http_status=status if status is not None and 100 <= status <= 599 else None,
    )
    ended = replace(_ended(attempt, now, follow_up), state="failed", failure=failure)
    return with_event(
        replace(ended, unsettled=ended.unsettled or _may_still_deliver(ended, failure.kind)),
        AttemptFailed,
        now,
        kind=failure.kind,
        error_code=failure.code,
        message=failure.message,
        http_status=failure.http_status,
        accepted=attempt.ref is not None,
        cost_usd=cost_usd if attempt.ref is not None else _cost_unsent(failure.kind),
        retry_at=retry_at,
        late=attempt.final,
    )


def _may_still_deliver(ended: Attempt, kind: FailureKind) -> bool:
    traits = FAILURES[kind]
    return traits.run_may_exist if ended.ref is None else traits.collectable


def _cost_unsent(kind: FailureKind) -> float | None:
    return None if kind is FailureKind.AMBIGUOUS_SUBMISSION else 0.0


def cancelled(attempt: Attempt, now: datetime, *, may_have_cost: bool, follow_up: FollowUp | None = None) -> Step:
    """It was stopped. A `follow_up` goes on after that, where the provider has not confirmed it."""
    ended = replace(_ended(attempt, now, follow_up), state="cancelled")
    return with_event(ended, AttemptCancelled, now, may_have_cost=may_have_cost, late=attempt.final)


def succeeded(attempt: Attempt, artifacts: tuple[Artifact, ...], now: datetime, *, missing: str | None = None) -> Step:
    """Its outputs are stored, but for those that are `missing`."""
    ended = replace(_ended(attempt, now, None), state="succeeded", failure=None)
    told_of = {"artifacts": artifacts, "cost_usd": attempt.price_usd, "late": attempt.final, "missing": missing}
    return with_event(ended, AttemptSucceeded, now, **told_of)


def _ended(attempt: Attempt, now: datetime, follow_up: FollowUp | None) -> Attempt:
    # A listing proves nothing before the grace is over, and that may be after the job's deadline.
    until = max(now, attempt.resolve_by or now) + timedelta(seconds=FOLLOW_UP_S)
    return replace(
        attempt,
        ended_at=attempt.ended_at or now,
        tries=0,
        unsettled=follow_up is not None,
        follow_up=follow_up,
        follow_up_until=until if follow_up else None,
        next_action_at=now + timedelta(seconds=FOLLOW_UP_FIRST_S) if follow_up else None,
    )


def with_event(
    attempt: Attempt, event: type[AttemptEvent], now: datetime, action: Action | None = None, /, **said: object
) -> Step:
    """The attempt one version later, with the event that reports it and the next action."""
    newer = replace(attempt, version=attempt.version + 1)
    happened = event.model_validate(
        {
            "job_id": newer.job_id,
            "occurred_at": now,
            "attempt_id": newer.attempt_id,
            "track_id": newer.track_id,
            "n": newer.n,
            "provider": newer.provider,
            "model": newer.model,
            "endpoint": newer.endpoint,
            "version": newer.version,
            "provider_ref": newer.ref.request_id if newer.ref else None,
            **{name: _storable(value) if isinstance(value, str) else value for name, value in said.items()},
        }
    )
    return Step(newer, (happened,), action)


def _storable(text: str) -> str:
    # Providers' words may hold what neither JSON nor Postgres takes: NUL and lone surrogates.
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:2000]


def reschedule(attempt: Attempt, now: datetime, most_s: float = 60.0) -> Step:
    """The current step failed again; it is due after a longer wait, of at most about `most_s` seconds."""
    tries = attempt.tries + 1
    wait_s = min(most_s, backoff_s(attempt.attempt_id, tries))
    return Step(replace(attempt, tries=tries, next_action_at=now + timedelta(seconds=wait_s)))


def with_lease(attempt: Attempt, now: datetime) -> Attempt:
    """The attempt while an action of it is under way."""
    return replace(attempt, next_action_at=now + timedelta(seconds=LEASE_S))
