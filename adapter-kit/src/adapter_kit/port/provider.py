"""The interface that a provider implements: a translation of its SDK, without decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from pydantic import JsonValue

from adapter_kit.port.outcomes import (
    Callback,
    CancelOutcome,
    CheckOutcome,
    FindOutcome,
    ProbeOutcome,
    Produced,
    ProviderRef,
    SubmitOutcome,
)
from contracts.generation import Modality
from contracts.generation import Provider as ProviderName
from contracts.ids import AttemptId


@dataclass(frozen=True, slots=True)
class Submission:
    """A run to submit."""

    attempt_id: AttemptId
    endpoint: str
    arguments: Mapping[str, JsonValue]
    start_within_s: float
    """Seconds within which the provider has to start the run, or drop it without billing it."""
    run_within_s: float
    """Time limit of the run in seconds, from its start."""
    webhook_url: str | None = None
    """The URL for callbacks; None: the run is only polled."""


@dataclass(frozen=True, slots=True)
class LostSubmission:
    """A submit whose response was lost, with the data to find its run in a listing."""

    attempt_id: AttemptId
    endpoint: str
    arguments: Mapping[str, JsonValue]
    submitted_at: datetime
    """When the POST was about to be sent."""
    late: bool = False
    """Nobody waits for its run: the attempt has ended, or is to be cancelled."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that the provider accepted."""

    attempt_id: AttemptId
    endpoint: str
    modality: Modality
    ref: ProviderRef
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    """The input of the run. Error messages may quote it, and a URL in it is not an output if the result repeats it."""


Stage = Literal["queued", "running", "ended"]


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run to look for in the provider's listing."""

    request_id: str
    accepted_at: datetime
    """When the provider's answer to the submit arrived."""


class Provider(Protocol):
    """A provider of paid runs. Errors of the provider are not raised: each method returns a type of `outcomes`.

    Every method sends at most one request with side effects, limits its own duration, and may be cancelled. A cancelled
    `submit` has an unclear outcome.
    """

    @property
    def name(self) -> ProviderName:
        """The name of the provider."""
        ...

    async def submit(self, submission: Submission) -> SubmitOutcome:
        """Submit a run: exactly one POST, or none."""
        ...

    async def check(self, run: Run) -> CheckOutcome:
        """The current status of the run, with its outputs if it has finished."""
        ...

    async def cancel(self, run: Run) -> CancelOutcome:
        """Request that the run be stopped."""
        ...

    async def find(
        self, lost: Sequence[LostSubmission], taken: frozenset[str], asked_at: datetime
    ) -> Mapping[AttemptId, FindOutcome]:
        """Search the provider's listing for the runs of lost submits; returns an outcome for each of them.

        `taken`: the provider's ids of the runs that belong to other attempts. `asked_at`: the time of the search, by
        the clock of `LostSubmission.submitted_at`.
        """
        ...

    async def stages(self, runs: Sequence[ListedRun]) -> Mapping[str, Stage]:
        """What the provider's listing says of the runs, by their ids, from at most one page for 25 of them.

        Runs that it does not show are left out; so are all of them if it cannot be read, or has ended runs only.
        """
        ...

    def read_callback(self, body: str) -> Callback | None:
        """The run that a callback's body is about; None if it names none. Sends no request."""
        ...

    def read_result(self, body: str, run: Run) -> Produced | None:
        """The outputs in the body of a callback about the run. Sends no request.

        None unless the body reports success and contains the same result as `check` would return.
        """
        ...

    async def probe(self, endpoint: str) -> ProbeOutcome:
        """Whether the provider answers and accepts the key; the request costs nothing."""
        ...
