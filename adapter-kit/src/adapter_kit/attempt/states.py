"""The states of an attempt, each with the data that exists in that state only. Pure.

Data that outlives a state is passed to the next one: the `Run`, once the provider has accepted it; the `LostSubmit`;
and the `Files` of the output. The transitions of a state are in the module of the same name. All states are defined
here, because every transition uses at least two of them.
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
    times_unknown: int = 0
    """How often the provider has reported it as unknown since it last reported anything else."""
    cancel_answered: bool = False
    """No cancel request is to be sent: the provider has answered one, or the run is over or must not be stopped."""
    own_listed_by: datetime | None = None
    """Set if a search found the run, or an operator named it: it may be that of another attempt with the same input.

    By this time the run that the attempt's own submit created, if any, is in the listing.
    """


@dataclass(frozen=True, slots=True)
class LostSubmit:
    """A submit whose response was lost, and how long the provider's listing has been available since."""

    submit_started_at: datetime
    resolve_by: datetime
    """Resolution deadline, listing downtime not counted."""
    listing_answered_at: datetime
    """When the last search that the listing answered was begun; before the first one, when the response was lost."""
    listing_downtime_s: float = 0.0
    """Listing downtime in seconds; it extends the resolution deadline."""
    submit_answered_at: datetime | None = None
    """When the provider answered the submit, if it did, without making clear whether it accepted it."""


@dataclass(frozen=True, slots=True)
class Files:
    """The outputs of a finished run, and the progress of fetching them. Outputs are numbered from 1."""

    outputs: tuple[Output, ...] = ()
    reached: frozenset[int] = frozenset()
    """Outputs to whose hosts a connection has been made at least once."""
    stored: Mapping[int, Artifact] = field(default_factory=dict)
    """The artifacts of the outputs that are stored already, by output number."""


@dataclass(frozen=True, slots=True)
class Failing:
    """A step after payment whose last try failed, and which is tried again."""

    step: Literal["fetch", "check", "cancel"]
    word: str
    """Why the last try failed: an ErrorWord or a FailureKind."""
    tries: int
    """How many tries have failed since the last one that did not."""
    logged_at: datetime
    """When a failed try was last logged."""
    reported: tuple[str, ...] = ()
    """The reasons for which an event has been published since then, each as `step:word`."""


@dataclass(frozen=True, slots=True)
class Queued:
    """The attempt waits to be submitted."""

    name: Literal["queued"] = "queued"
    run: ClassVar[None] = None
    cancel_reason: ClassVar[None] = None

    def close(self, now: datetime) -> Closed:
        """The state after the end, with the data that is kept."""
        return Closed(ended_at=now)


@dataclass(frozen=True, slots=True)
class Submitting:
    """The POST is in progress."""

    submit_started_at: datetime
    cancel_reason: CancelReason | None = None
    """Set if the run is to be cancelled once the provider has accepted it."""
    name: Literal["submitting"] = "submitting"
    run: ClassVar[None] = None

    def close(self, now: datetime) -> Closed:
        """The state after the end, with the data that is kept."""
        return Closed(ended_at=now, cancel_reason=self.cancel_reason)


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """The response to the POST was lost; whether the provider accepted the run is being determined."""

    lost: LostSubmit
    cancel_reason: CancelReason | None = None
    """Set if the run is to be cancelled once it is found."""
    claim: ProviderRef | None = None
    """The run that an operator named, until the provider confirms that it exists."""
    name: Literal["ambiguous"] = "ambiguous"
    run: ClassVar[None] = None

    def close(self, now: datetime) -> Closed:
        """The state after the end, with the data that is kept."""
        return Closed(ended_at=now, cancel_reason=self.cancel_reason, lost=self.lost)


@dataclass(frozen=True, slots=True)
class Running:
    """The provider has accepted the run, and its status is polled."""

    run: Run
    fetch_by: datetime | None = None
    """Until when a run that the provider reports as unknown is polled, before it counts as lost; else None."""
    name: Literal["running"] = "running"
    cancel_reason: ClassVar[None] = None

    def close(self, now: datetime) -> Closed:
        """The state after the end, with the data that is kept."""
        return Closed(ended_at=now, run=self.run)


@dataclass(frozen=True, slots=True)
class Cancelling:
    """The run is to be stopped; its status is polled until the provider reports how it ended."""

    run: Run
    cancel_reason: CancelReason
    cancel_sent_at: datetime | None = None
    """When the cancel request was first sent; None before that."""
    fetch_by: datetime | None = None
    """Until when a run that the provider reports as unknown is polled, before it counts as lost; else None."""
    name: Literal["cancelling"] = "cancelling"

    def close(self, now: datetime) -> Closed:
        """The state after the end, with the data that is kept."""
        return Closed(ended_at=now, run=self.run, cancel_reason=self.cancel_reason)


@dataclass(frozen=True, slots=True)
class Collecting:
    """The run has finished, and its outputs are being fetched."""

    run: Run
    fetch_by: datetime
    """End of the fetching window, which began when the provider first reported the run as finished or unknown."""
    files: Files = Files()
    """Empty until the provider has named the outputs."""
    cancel_reason: CancelReason | None = None
    name: Literal["collecting"] = "collecting"

    def close(self, now: datetime) -> Closed:
        """The state after the end, with the data that is kept."""
        return Closed(ended_at=now, run=self.run, cancel_reason=self.cancel_reason, files=self.files)


@dataclass(frozen=True, slots=True)
class Searching:
    """Follow-up: the provider's listing is still searched for the run of a lost submit."""

    until: datetime
    name: Literal["search"] = "search"
    claim: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Watching:
    """Follow-up: the run is cancelled unless that has been done, and polled until the provider reports how it ended."""

    until: datetime
    claim: ProviderRef | None = None
    """The run that an operator named, until the provider confirms that it exists. Such a run is not cancelled."""
    name: Literal["watch"] = "watch"


@dataclass(frozen=True, slots=True)
class Fetching:
    """Follow-up: the outputs are still being fetched."""

    until: datetime
    name: Literal["collect"] = "collect"
    claim: ClassVar[None] = None


FollowUp = Annotated[Searching | Watching | Fetching, Field(discriminator="name")]
"""Work that continues on an attempt after its end, and when it stops."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The attempt has ended, and its job no longer waits for it."""

    ended_at: datetime
    name: Literal["succeeded", "failed", "cancelled"] = "failed"
    failure: Failure | None = None
    run: Run | None = None
    cancel_reason: CancelReason | None = None
    lost: LostSubmit | None = None
    files: Files = Files()
    unsettled: bool = False
    """The provider has not confirmed the outcome: a later one is still recorded, but does not change the job."""
    follow_up: FollowUp | None = None

    def close(self, now: datetime) -> Closed:
        """The state itself: a later outcome does not change the time of the end."""
        return self


Live = Queued | Submitting | Ambiguous | Running | Cancelling | Collecting
"""The states in which a job waits for its attempt."""
State = Annotated[Live | Closed, Field(discriminator="name")]
