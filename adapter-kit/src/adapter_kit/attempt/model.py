"""The attempt as a record: the data common to all states, and how an attempt ends. Pure.

Data of a single state is in `states`; the transitions of a state are in the module of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from zlib import crc32

from pydantic import JsonValue

from adapter_kit.attempt.actions import Action
from adapter_kit.attempt.states import (
    Ambiguous,
    CancelReason,
    Closed,
    Collecting,
    Failing,
    Files,
    FollowUp,
    Queued,
    State,
    Watching,
)
from adapter_kit.port.outcomes import Failure, ProviderRef
from contracts.failures import FAILURES, FailureKind
from contracts.generation import AmbiguityPolicy, LostOutputPolicy, Modality, Provider
from contracts.ids import AttemptId, JobId, TrackId
from contracts.messages.attempts import (
    Artifact,
    AttemptCancelled,
    AttemptEvent,
    AttemptFailed,
    AttemptSucceeded,
)

LEASE_S: Final = 15.0
"""Lease duration in seconds. The holder renews it; when it ends, another replica takes over."""
HELD_UP_S: Final = LEASE_S / 2
"""The longest delay in seconds from the beginning of a lease to the POST; after that it is not sent."""
FOLLOW_UP_S: Final = 3_600.0
"""Duration in seconds of the follow-up of an attempt whose outcome the provider has not confirmed."""
FOLLOW_UP_FIRST_S: Final = 5.0
TIMES_UNKNOWN: Final = 4
"""How often the provider has to report a run as unknown, and nothing else in between, before it counts as unknown."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """All data of one attempt. Times are timezone-aware, durations are in seconds, amounts are in USD."""

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
    """How long the provider keeps the result of a finished run, in seconds."""
    expects_callback: bool = False
    """The submit includes the URL for callbacks."""
    called_back: bool = False
    read_late: bool = False
    """Its command was read long after it was given: it is not sent before the commands behind that are read as well."""
    throttling_reported: bool = False
    """Throttling has already been reported."""
    state: State = field(default_factory=Queued)
    version: int = 0
    """The number of events published about the attempt."""
    next_action_at: datetime | None = None
    """When the attempt is due; None if it has ended and no follow-up remains."""
    submissions: int = 0
    """How many times the attempt has changed from queued to submitting."""
    submit_started_at: datetime | None = None
    """When it last changed to submitting."""
    tries: int = 0
    """How many consecutive times the current step has failed."""
    failing: Failing | None = None
    """The step after payment whose last try failed; None if none did."""
    cost_usd: float | None = None
    """What the attempt cost, as its last event about an end says; None if it is not known."""

    @property
    def final(self) -> bool:
        """Whether the attempt has ended; a follow-up may remain."""
        return isinstance(self.state, Closed)

    @property
    def ref(self) -> ProviderRef | None:
        """The provider's reference to the run; None while none is known."""
        return self.state.run.ref if self.state.run else None

    @property
    def claim(self) -> ProviderRef | None:
        """The run that an operator named, until the provider confirms that it exists; None without one."""
        match self.state:
            case Ambiguous(claim=claim) | Closed(follow_up=Watching(claim=claim)):
                return claim
            case _:
                return None

    @property
    def failure(self) -> Failure | None:
        """Why the attempt failed; None if it has not."""
        return self.state.failure if isinstance(self.state, Closed) else None

    @property
    def files(self) -> Files:
        """The outputs of the run; empty if none are known."""
        return self.state.files if isinstance(self.state, Collecting | Closed) else Files()


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
    follow_up: Callable[[datetime], FollowUp] | None = None,
) -> Step:
    """The attempt ends without a result. `cost_usd` is used only if the provider accepted the run.

    `follow_up` makes the follow-up, if one remains, from the time at which it stops.
    """
    status = failure.http_status
    failure = replace(
        failure,
        message=_storable(failure.message),
        code=_storable(failure.code or "")[:200] or None,
        http_status=status if status is not None and 100 <= status <= 599 else None,
    )
    closed = replace(_closed(attempt, now, follow_up), name="failed", failure=failure)
    traits = FAILURES[failure.kind]
    may_still_deliver = traits.run_may_exist if closed.run is None else traits.collectable
    return _with_end(
        attempt,
        replace(closed, unsettled=closed.unsettled or may_still_deliver),
        AttemptFailed,
        now,
        kind=failure.kind,
        error_code=failure.code,
        message=failure.message,
        http_status=failure.http_status,
        accepted=closed.run is not None,
        cost_usd=cost_usd if closed.run is not None else _cost_unsent(failure.kind),
        retry_at=retry_at,
    )


def _cost_unsent(kind: FailureKind) -> float | None:
    return None if kind is FailureKind.AMBIGUOUS_SUBMISSION else 0.0


def cancelled(
    attempt: Attempt,
    now: datetime,
    *,
    may_have_cost: bool,
    reason: CancelReason | None = None,
    follow_up: Callable[[datetime], FollowUp] | None = None,
) -> Step:
    """The attempt ends as cancelled; `follow_up` is given if the provider has not confirmed that the run stopped."""
    closed = _closed(attempt, now, follow_up)
    closed = replace(closed, name="cancelled", cancel_reason=reason or closed.cancel_reason)
    return _with_end(attempt, closed, AttemptCancelled, now, may_have_cost=may_have_cost)


def succeeded(attempt: Attempt, artifacts: tuple[Artifact, ...], now: datetime, *, missing: str | None = None) -> Step:
    """The attempt ends with its outputs stored; `missing` describes those that could not be fetched."""
    closed = replace(_closed(attempt, now, None), name="succeeded", failure=None)
    fields = {"artifacts": artifacts, "cost_usd": attempt.price_usd, "missing": missing}
    return _with_end(attempt, closed, AttemptSucceeded, now, **fields)


def _closed(attempt: Attempt, now: datetime, follow_up: Callable[[datetime], FollowUp] | None) -> Closed:
    closed = attempt.state.close(now)
    # Absence from a listing proves nothing during the grace period, which may end after the job's deadline.
    begins = now if closed.lost is None else max(now, closed.lost.resolve_by)
    until = begins + timedelta(seconds=FOLLOW_UP_S)
    return replace(closed, unsettled=follow_up is not None, follow_up=follow_up(until) if follow_up else None)


def _with_end(attempt: Attempt, closed: Closed, event: type[AttemptEvent], now: datetime, **fields: object) -> Step:
    due = now + timedelta(seconds=FOLLOW_UP_FIRST_S) if closed.follow_up else None
    cost_usd = fields.get("cost_usd")
    known_usd = cost_usd if isinstance(cost_usd, float | int) else attempt.cost_usd
    ended = replace(attempt, state=closed, tries=0, next_action_at=due, cost_usd=known_usd)
    return with_event(ended, event, now, late=attempt.final, **fields)


def with_event(
    attempt: Attempt, event: type[AttemptEvent], now: datetime, action: Action | None = None, /, **fields: object
) -> Step:
    """The attempt with its version increased by one, the event that carries this version, and the action.

    `fields` are the fields of the event beyond those that every event of an attempt has.
    """
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
            **{name: _storable(value) if isinstance(value, str) else value for name, value in fields.items()},
        }
    )
    return Step(newer, (happened,), action)


def _storable(text: str) -> str:
    # Texts of a provider may contain NUL, which PostgreSQL rejects, and lone surrogates, which UTF-8 cannot encode.
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:2000]


def backoff_s(name: str, tries: int) -> float:
    """Seconds to wait after the given number of consecutive failures: doubled from 1 to 30, plus jitter of up to 25%.

    The jitter is derived from the name, so that it is reproducible, and attempts do not retry at the same moment.
    """
    jitter = crc32(f"{name}:{tries}".encode()) / 2**32
    return min(30.0, 2.0 ** (tries - 1)) * (1 + jitter / 4)


def reschedule(attempt: Attempt, now: datetime, most_s: float = 60.0) -> Step:
    """The attempt after another failure of the current step, due after the backoff, at most `most_s` seconds."""
    tries = attempt.tries + 1
    wait_s = min(most_s, backoff_s(attempt.attempt_id, tries))
    return Step(replace(attempt, tries=tries, next_action_at=now + timedelta(seconds=wait_s)))


def with_lease(attempt: Attempt, now: datetime) -> Attempt:
    """The attempt with a lease from `now`, as it is while an action is performed."""
    return replace(attempt, next_action_at=now + timedelta(seconds=LEASE_S))
