"""The port that a provider implements: one translation of its SDK, and nothing that decides anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pydantic import JsonValue

from adapter_kit.port.outcomes import (
    Callback,
    CancelOutcome,
    CheckOutcome,
    FindOutcome,
    ProbeOutcome,
    ProviderRef,
    SubmitOutcome,
)
from contracts.generation import Modality
from contracts.generation import Provider as ProviderName
from contracts.ids import AttemptId


@dataclass(frozen=True, slots=True)
class Submission:
    """One run to ask for."""

    attempt_id: AttemptId
    endpoint: str
    arguments: Mapping[str, JsonValue]
    start_within_s: float
    """Seconds in which the provider has to start the run, or drop it unbilled."""
    run_within_s: float
    """Seconds that the run may take once started."""
    webhook_url: str | None = None
    """Where the provider may call back; None: it is polled alone."""


@dataclass(frozen=True, slots=True)
class LostSubmission:
    """A run that may or may not have been accepted, as far as one can describe it to a listing."""

    attempt_id: AttemptId
    endpoint: str
    arguments: Mapping[str, JsonValue]
    submitted_at: datetime
    """When the one POST was about to be sent."""
    late: bool = False
    """Its job has ended without it: nobody waits for it any more."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that the provider accepted."""

    attempt_id: AttemptId
    endpoint: str
    modality: Modality
    ref: ProviderRef
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    """What was asked for: errors may repeat it, and a URL in here that comes back in the result is no output."""


class Provider(Protocol):
    """A provider of paid runs. No method raises, for the provider's part: each answer is a value of `outcomes`.

    Every method makes at most one request that changes anything, bounds its own time, and may be cancelled. A cancelled
    `submit` has an unclear outcome.
    """

    @property
    def name(self) -> ProviderName:
        """Which provider it is."""
        ...

    async def submit(self, submission: Submission) -> SubmitOutcome:
        """Ask for a run: exactly one POST, or none."""
        ...

    async def check(self, run: Run) -> CheckOutcome:
        """How the run stands now; with its outputs, where it has any."""
        ...

    async def cancel(self, run: Run) -> CancelOutcome:
        """Ask for the run to stop."""
        ...

    async def find(self, lost: Sequence[LostSubmission], taken: frozenset[str]) -> Mapping[AttemptId, FindOutcome]:
        """Look in the provider's listing for runs whose submits' answers were lost: an outcome for each of them.

        `taken` are the provider's ids of the runs that other attempts have.
        """
        ...

    def read_callback(self, body: str) -> Callback | None:
        """What a webhook's body says; None where it names no run. Asks nobody, and believes nothing but the name."""
        ...

    async def probe(self, endpoint: str) -> ProbeOutcome:
        """Whether the provider answers and accepts the key, without spending anything."""
        ...
