"""The inputs of the attempt machine: what can happen to an attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from adapter_kit.port.outcomes import (
    CancelOutcome,
    CheckOutcome,
    Failure,
    FindOutcome,
    ProviderRef,
    SubmitOutcome,
)
from contracts.messages.attempts import Artifact


@dataclass(frozen=True, slots=True)
class Due:
    """Its `next_action_at` has come."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A rate or a concurrency limit is reached; the attempt waits until `until`."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class ShutOut:
    """The breaker is open; the provider may be asked again at `until`."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class CancelWanted:
    """The orchestrator wants it stopped."""

    reason: Literal["client", "deadline"]


@dataclass(frozen=True, slots=True)
class CalledBack:
    """A callback came in. What it reports is read from the provider, never from the callback."""

    ref: ProviderRef | None = None
    """The run it called about, where it said so."""


@dataclass(frozen=True, slots=True)
class SubmitAnswered:
    """The outcome of the POST of the given submission."""

    submission: int
    outcome: SubmitOutcome


@dataclass(frozen=True, slots=True)
class Checked:
    """What the provider says of the run."""

    outcome: CheckOutcome
    callbacks_arrive: bool = False
    """The provider's callbacks were reaching us of late, so that looking again is only a backstop."""


@dataclass(frozen=True, slots=True)
class CancelAnswered:
    """What the provider says to the cancel."""

    outcome: CancelOutcome


@dataclass(frozen=True, slots=True)
class Searched:
    """What the provider's listing says about a lost submit."""

    outcome: FindOutcome


@dataclass(frozen=True, slots=True)
class Resolved:
    """An operator says what became of a lost submit."""

    ref: ProviderRef | None
    """The run it is; None: there is none."""
    said_at: datetime


@dataclass(frozen=True, slots=True)
class CollectWanted:
    """An operator wants the output of a paid run fetched again."""


@dataclass(frozen=True, slots=True)
class Collected:
    """The outputs are in the artifact store."""

    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class CollectFailed:
    """Not all outputs could be stored. Outputs are named by their number in the result, from 1 on."""

    failure: Failure
    final: bool
    """Trying again is in vain."""
    reached: frozenset[int] = frozenset()
    """Outputs whose hosts could be connected to."""
    stored: Mapping[int, Artifact] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)
    """Why the others could not be had."""


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
