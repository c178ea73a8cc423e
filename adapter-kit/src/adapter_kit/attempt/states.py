"""The states of an attempt: what is known in each, and in no other. Pure.

What outlives a state is passed on to the next one: the `Run` once the provider has named it, what is known of a
`LostSubmit`, and the `Files` of the output. The transitions of a state are in the module of its name. The states stand
together, since every transition names at least two of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from adapter_kit.port.outcomes import Failure, Output, ProviderRef
from contracts.messages.attempts import Artifact

CancelReason = Literal["client", "deadline", "start_timeout", "run_timeout"]


@dataclass(frozen=True, slots=True)
class Run:
    """A run that the provider has accepted."""

    ref: ProviderRef
    accepted_at: datetime
    started_at: datetime | None = None
    stage: Literal["queued", "running"] | None = None
    queue_position: int | None = None
    cancel_answered: bool = False
    """The provider has answered a cancel, or nothing is left to stop: what is left is to see how the run ends."""


@dataclass(frozen=True, slots=True)
class LostSubmit:
    """A submit whose response was lost, and what the provider's listing has said of it."""

    submit_started_at: datetime
    resolve_by: datetime
    """Resolution deadline, listing downtime not counted."""
    listing_answered_at: datetime
    """When the listing last answered about it; at first, when the response was lost."""
    listing_downtime_s: float = 0.0
    """For how long the listing gave no answer, by which the wait for it is longer."""
    submit_answered_at: datetime | None = None
    """When the provider itself answered the submit, in words that leave open whether it accepted it."""


@dataclass(frozen=True, slots=True)
class Files:
    """The outputs of a finished run, and what is known of fetching them. Outputs are numbered from 1 on."""

    outputs: tuple[Output, ...] = ()
    reached: frozenset[int] = frozenset()
    """Outputs whose hosts could ever be connected to."""
    stored: Mapping[int, Artifact] = field(default_factory=dict)
    """What came of the outputs that are in the store, while others are not."""


@dataclass(frozen=True, slots=True)
class Queued:
    """It waits to be sent."""

    name: Literal["queued"] = "queued"
    run: ClassVar[None] = None
    cancel_reason: ClassVar[None] = None

    def close(self, now: datetime) -> Closed:
        """The end of it, with what outlives this state."""
        return Closed(ended_at=now)


@dataclass(frozen=True, slots=True)
class Submitting:
    """Its POST is under way."""

    submit_started_at: datetime
    cancel_reason: CancelReason | None = None
    """It is to be cancelled once the provider has answered."""
    name: Literal["submitting"] = "submitting"
    run: ClassVar[None] = None

    def close(self, now: datetime) -> Closed:
        """The end of it, with what outlives this state."""
        return Closed(ended_at=now, cancel_reason=self.cancel_reason)


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """The response to its POST was lost, and the run is looked for."""

    lost: LostSubmit
    cancel_reason: CancelReason | None = None
    """It is to be cancelled once it is found."""
    claim: ProviderRef | None = None
    """The run that an operator says it is, until the provider says that it knows it."""
    name: Literal["ambiguous"] = "ambiguous"
    run: ClassVar[None] = None

    def close(self, now: datetime) -> Closed:
        """The end of it, with what outlives this state."""
        return Closed(ended_at=now, cancel_reason=self.cancel_reason, lost=self.lost)


@dataclass(frozen=True, slots=True)
class Running:
    """The provider has accepted the run, and is asked how it stands."""

    run: Run
    fetch_by: datetime | None = None
    """Until when a run is asked for that the provider no longer knows; None while it knows it."""
    name: Literal["running"] = "running"
    cancel_reason: ClassVar[None] = None

    def close(self, now: datetime) -> Closed:
        """The end of it, with what outlives this state."""
        return Closed(ended_at=now, run=self.run)


@dataclass(frozen=True, slots=True)
class Cancelling:
    """The run is to stop, and the provider is asked until it says how the run ended."""

    run: Run
    cancel_reason: CancelReason
    cancel_sent_at: datetime | None = None
    """When the cancel was first sent; None before that."""
    fetch_by: datetime | None = None
    """Until when a run is asked for that the provider no longer knows; None while it knows it."""
    name: Literal["cancelling"] = "cancelling"

    def close(self, now: datetime) -> Closed:
        """The end of it, with what outlives this state."""
        return Closed(ended_at=now, run=self.run, cancel_reason=self.cancel_reason)


@dataclass(frozen=True, slots=True)
class Collecting:
    """The run has finished, and its output is fetched."""

    run: Run
    fetch_by: datetime
    """End of the window for fetching, since the provider first said that the run finished, or is unknown."""
    files: Files = Files()
    """Without outputs while the provider has named none."""
    cancel_reason: CancelReason | None = None
    name: Literal["collecting"] = "collecting"

    def close(self, now: datetime) -> Closed:
        """The end of it, with what outlives this state."""
        return Closed(ended_at=now, run=self.run, cancel_reason=self.cancel_reason, files=self.files)


@dataclass(frozen=True, slots=True)
class Searching:
    """Follow-up: the run of a lost submit is still looked for in the listing."""

    until: datetime
    name: Literal["search"] = "search"
    claim: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Watching:
    """Follow-up: the run is stopped, where nobody has yet, and watched until the provider says how it ended."""

    until: datetime
    claim: ProviderRef | None = None
    """The run that an operator says it is, until the provider says that it knows it. Such a run is not stopped."""
    name: Literal["watch"] = "watch"


@dataclass(frozen=True, slots=True)
class Fetching:
    """Follow-up: the outputs are still fetched."""

    until: datetime
    name: Literal["collect"] = "collect"
    claim: ClassVar[None] = None


FollowUp = Annotated[Searching | Watching | Fetching, Field(discriminator="name")]
"""What is still being done about an attempt that has ended, and until when."""


@dataclass(frozen=True, slots=True)
class Closed:
    """It is over for its job."""

    ended_at: datetime
    name: Literal["succeeded", "failed", "cancelled"] = "failed"
    failure: Failure | None = None
    run: Run | None = None
    cancel_reason: CancelReason | None = None
    lost: LostSubmit | None = None
    files: Files = Files()
    unsettled: bool = False
    """It ended without its provider's last word: what shows itself later still counts, though not for its job."""
    follow_up: FollowUp | None = None

    def close(self, now: datetime) -> Closed:
        """The same: a later outcome does not move the end."""
        return self


Live = Queued | Submitting | Ambiguous | Running | Cancelling | Collecting
"""The states in which a job waits for its attempt."""
State = Annotated[Live | Closed, Field(discriminator="name")]
