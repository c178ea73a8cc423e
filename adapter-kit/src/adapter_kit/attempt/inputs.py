"""The inputs of the attempt machine: what can happen to an attempt.

The outcome of an action that may be repeated has the `asked_at` of the action: the provider was asked then or later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from adapter_kit.port.outcomes import (
    CancelOutcome,
    CheckOutcome,
    ErrorWord,
    Failure,
    FindOutcome,
    Produced,
    ProviderRef,
    SubmitOutcome,
)
from contracts.messages.attempts import Artifact


@dataclass(frozen=True, slots=True)
class Due:
    """The time in `next_action_at` is reached."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A rate or a concurrency limit is reached; the attempt stays queued until `until`."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class ShutOut:
    """The breaker is open; requests to the provider are allowed again at `until`."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class CancelWanted:
    """The orchestrator requests that the attempt be cancelled."""

    reason: Literal["client", "deadline"]


@dataclass(frozen=True, slots=True)
class CalledBack:
    """A verified callback arrived."""

    ref: ProviderRef | None = None
    """The run that the callback names; None if it names none."""
    result: Produced | None = None
    """The outputs of that run, if the callback contains them."""
    at_work: bool = False
    """The callback says that the run has started and goes on. Without this and outputs its status is requested."""


@dataclass(frozen=True, slots=True)
class SubmitAnswered:
    """The outcome of the POST of the given submission."""

    submission: int
    outcome: SubmitOutcome


@dataclass(frozen=True, slots=True)
class Checked:
    """The status of the run `ref`, as the provider reports it."""

    outcome: CheckOutcome
    ref: ProviderRef
    asked_at: datetime
    callbacks_arrive: bool = False
    """The provider's recent callbacks have arrived, so that polling is only a fallback."""


@dataclass(frozen=True, slots=True)
class CancelAnswered:
    """The provider's response to the cancel request."""

    outcome: CancelOutcome
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Searched:
    """The result of the search for a lost submit in the provider's listing."""

    outcome: FindOutcome
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Resolved:
    """An operator states the outcome of a lost submit."""

    ref: ProviderRef | None
    """The run that the submit created; None if it created none."""
    said_at: datetime


@dataclass(frozen=True, slots=True)
class CollectWanted:
    """An operator requests that the output of a paid run be fetched again."""


@dataclass(frozen=True, slots=True)
class Collected:
    """The outputs are in the artifact store."""

    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class CollectFailed:
    """Not all outputs could be stored. The keys are output numbers, counted from 1 in the order of the result."""

    failure: Failure
    final: bool
    """A retry cannot succeed."""
    asked_at: datetime
    reached: frozenset[int] = frozenset()
    """Outputs to whose hosts a connection was made."""
    stored: Mapping[int, Artifact] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)
    """Why each of the other outputs could not be fetched."""
    word: ErrorWord | None = None
    """Why the request for the output that `failure` is about failed; None if the kind of failure says it."""
    host: str | None = None
    """The host of that output; None if it has none."""


Input = (
    Due
    | HeldBack
    | ShutOut
    | CancelWanted
    | CalledBack
    | SubmitAnswered
    | Checked
    | CancelAnswered
    | Searched
    | Resolved
    | CollectWanted
    | Collected
    | CollectFailed
)
