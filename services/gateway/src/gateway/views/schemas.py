"""What the API answers: the shapes that clients read."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field, create_model

from contracts.generation import Modality, Provider
from contracts.messages.attempts import AttemptState
from contracts.messages.jobs import CancelEffect, JobStatus
from contracts.providers.registry import PROVIDERS
from gateway.http.plain import Answer

ERROR_CODE: Final = "The provider's own code; where it gave none, the same as error_kind."


class Links(Answer):
    """Where to look next."""

    job: str
    track: str
    logs: str


class AcceptedAnswer(Answer):
    """The job that a request became; it is safe in Kafka."""

    job_id: str
    track_id: str
    status: Literal["queued"] = "queued"
    trace_id: str | None = Field(description="The trace that everything done for this job belongs to.")
    links: Links


class ArtifactAnswer(Answer):
    """One file."""

    name: str
    url: str
    content_type: str
    size_bytes: int
    sha256: str
    duration_s: float | None = None
    expired_at: datetime | None = Field(default=None, description="When the file was deleted; null: it is kept.")


class AttemptAnswer(Answer):
    """One try at one provider."""

    id: str
    attempt: int = Field(description="Which try it was, from 1.")
    provider: Provider
    endpoint: str | None = Field(description="The provider's name for the model.")
    state: AttemptState
    provider_ref: str | None = Field(description="The provider's own id for the run.")
    error_kind: str | None = Field(description="What went wrong, from Segue's closed list.")
    error_code: str | None = Field(description=ERROR_CODE)
    http_status: int | None = Field(description="The status with which the provider refused it.")
    message: str | None = Field(description="The provider's own words.")
    cost_usd: float | None
    late: bool = Field(description="It said more after it had ended; the job goes by what it had said first.")
    late_artifacts: list[ArtifactAnswer] = Field(
        default_factory=list, description="Files that came too late to be the job's; kept all the same."
    )
    resolve_by: datetime | None = Field(description="Ambiguous: when silence becomes an answer.")
    submitting_at: datetime | None
    submitted_at: datetime | None
    finished_at: datetime | None


class FailedAttempt(Answer):
    """Why one try did not succeed."""

    attempt: int
    provider: Provider
    kind: str | None
    error_code: str | None
    message: str | None


class JobError(Answer):
    """Why a job failed, with every attempt's reason."""

    kind: str
    message: str
    callers_fault: bool = Field(description="The request itself has to change; the same one would fail again.")
    attempts: list[FailedAttempt]


class CancelAnswer(Answer):
    """What came of a client's wish to stop a job."""

    effect: CancelEffect | Literal["too_late", "pending"] = Field(
        description="never_sent and cancelled_free cost nothing more; pending: it is not known yet."
    )
    message: str = Field(description="What it means for the job and for the money.")


class JobAnswer(Answer):
    """One job, as far as it has come."""

    id: str
    track_id: str
    status: JobStatus
    model: str | None = Field(description="What was asked for; null until Segue has chosen where nothing was.")
    provider: Provider | None = Field(description="Where the job is now, or who made it.")
    attempts: list[AttemptAnswer]
    queue_position: int | None = Field(description="At the provider, where it says so.")
    cost_usd: float | None = Field(description="All attempts together, as expected.")
    error: JobError | None
    cancel: CancelAnswer | None = Field(description="What came of cancelling it; null where nobody asked for that.")
    artifacts: list[ArtifactAnswer]
    metadata: dict[str, str]
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    trace_id: str | None
    stale: bool = Field(default=False, description="The database is away; this is what Kafka told so far.")


class JobPage(Answer):
    """Some jobs, the newest first."""

    jobs: list[JobAnswer]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


class TrackAnswer(Answer):
    """The music that a job makes."""

    id: str
    job_id: str
    status: JobStatus
    provider: Provider | None = Field(description="Who made it.")
    model: str | None
    audio_url: str | None
    duration_s: float | None = Field(description="Its length as measured.")
    audio_expired_at: datetime | None = Field(default=None, description="When the audio was deleted; null: it is kept.")
    created_at: datetime
    finished_at: datetime | None
    stale: bool = Field(default=False, description="The database is away; this is what Kafka told so far.")


class TrackPage(Answer):
    """Some tracks, the newest first."""

    tracks: list[TrackAnswer]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


class LogEntry(Answer):
    """One thing that happened."""

    time: datetime
    event: str
    track_id: str | None
    job_id: str
    provider: Provider | None
    attempt: int | None
    error_kind: str | None = Field(description="What went wrong, from Segue's closed list.")
    error_code: str | None = Field(description=ERROR_CODE)
    http_status: int | None = Field(description="The status with which the provider refused it.")
    message: str | None


class JobLog(Answer):
    """Everything that happened to a job: causes before effects, also where the services' clocks differ."""

    entries: list[LogEntry]


class RangeAnswer(Answer):
    """From `min` to `max`, both included; null is open."""

    min: float | None = None
    max: float | None = None


class LimitsAnswer(Answer):
    """What a route cannot do."""

    prompt_chars: RangeAnswer
    duration_s: RangeAnswer
    lyrics_chars: RangeAnswer
    num_images: RangeAnswer
    vocals: Literal["required", "forbidden"] | None = None
    lyrics: Literal["required", "forbidden"] | None = None


class PriceAnswer(Answer):
    """What a run that succeeds costs."""

    usd: float
    per: str


class RouteAnswer(Answer):
    """One provider's way to a model."""

    provider: Provider
    endpoint: str
    substitute: bool = Field(description="Another model than the one named, near to it.")
    ignores: list[str] = Field(description="Fields of a request that make no difference here.")
    limits: LimitsAnswer
    price: PriceAnswer | None
    source: str


class ModelAnswer(Answer):
    """One model of the catalogue."""

    name: str
    title: str
    modality: Modality
    routes: list[RouteAnswer]


class ModelList(Answer):
    """The catalogue."""

    models: list[ModelAnswer]


_HEALTH: Final[dict[str, Any]] = dict.fromkeys(PROVIDERS, Literal["ok", "fail"])
_ERRORS: Final[dict[str, Any]] = {f"{name}_error": str | None for name in PROVIDERS}
ProviderHealth: Final[type[Answer]] = create_model(
    "ProviderHealth",
    __base__=Answer,
    __module__=__name__,
    __doc__="Whether each provider accepts our key right now.",
    **(_HEALTH | _ERRORS),
)
