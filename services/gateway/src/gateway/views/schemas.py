"""The response models for jobs, tracks, the catalogue and the health of providers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field, create_model

from contracts.generation import Modality, Provider
from contracts.messages.attempts import AttemptState
from contracts.messages.jobs import CancelEffect, JobStatus
from contracts.providers.registry import PROVIDERS
from gateway.http.plain import Answer

ERROR_KIND: Final = "The kind of failure, from Segue's closed list."
ERROR_CODE: Final = "The provider's error code; if it gave none, the same as error_kind."
HTTP_STATUS: Final = "The HTTP status of the provider's refusal."
MESSAGE: Final = "The provider's error message; while the attempt goes on, what fails, and when it is tried again."
LATE: Final = "Whether the attempt changed after it had ended. The job's result is that of its first end."
RESOLVE_BY: Final = "The resolution deadline while the attempt is ambiguous."
TRACE_URL: Final = "Where the job's trace is shown; null if SEGUE_TRACE_URL is not set."
NEXT_CURSOR: Final = "The cursor of the next page; null on the last. Any other page may have fewer items than `limit`."
STALE: Final = "Whether the database is unavailable, so that the answer contains only recent events from Kafka."


class Links(Answer):
    """The URLs of the job's resources."""

    job: str
    track: str
    logs: str


class AcceptedAnswer(Answer):
    """The job of an accepted request, which Kafka has stored."""

    job_id: str
    track_id: str
    status: Literal["queued"] = "queued"
    trace_id: str | None = Field(description="The id of the job's trace.")
    trace_url: str | None = Field(default=None, description=TRACE_URL)
    links: Links


class ArtifactAnswer(Answer):
    """One output file."""

    name: str
    url: str
    content_type: str
    size_bytes: int
    sha256: str
    duration_s: float | None = None
    expired_at: datetime | None = Field(default=None, description="When the file was deleted; null while it is kept.")


class AttemptAnswer(Answer):
    """One attempt at one provider."""

    id: str
    attempt: int = Field(description="The number of the attempt within its job, from 1.")
    provider: Provider
    endpoint: str | None = Field(description="The provider's name for the model.")
    state: AttemptState
    provider_ref: str | None = Field(description="The provider's own id for the run.")
    error_kind: str | None = Field(description=ERROR_KIND)
    error_code: str | None = Field(description=ERROR_CODE)
    http_status: int | None = Field(description=HTTP_STATUS)
    message: str | None = Field(description=MESSAGE)
    cost_usd: float | None
    late: bool = Field(description=LATE)
    late_artifacts: list[ArtifactAnswer] = Field(
        default_factory=list, description="Files that came too late to be the job's result; they are kept as well."
    )
    resolve_by: datetime | None = Field(description=RESOLVE_BY)
    submitting_at: datetime | None
    submitted_at: datetime | None
    finished_at: datetime | None


class FailedAttempt(Answer):
    """Why one attempt did not succeed."""

    attempt: int
    provider: Provider
    kind: str | None
    error_code: str | None
    message: str | None


class JobError(Answer):
    """Why a job failed, with the error of each attempt."""

    kind: str
    message: str
    callers_fault: bool = Field(description="Whether the request has to be changed: the same one would fail again.")
    attempts: list[FailedAttempt]


class CancelAnswer(Answer):
    """The effect of a client's request to cancel a job."""

    effect: CancelEffect | Literal["too_late", "pending"] = Field(
        description="never_sent and cancelled_free: no further cost. pending: the effect is not known yet."
    )
    message: str = Field(description="The consequences for the job and its cost.")


class JobAnswer(Answer):
    """The current state of one job."""

    id: str
    track_id: str
    status: JobStatus
    model: str | None = Field(
        description="The requested model; if none was requested, the planned one, null until then."
    )
    provider: Provider | None = Field(description="The provider of the current attempt, or of the one that succeeded.")
    attempts: list[AttemptAnswer]
    queue_position: int | None = Field(description="The position in the provider's queue, if it reports one.")
    cost_usd: float | None = Field(description="The expected cost of all attempts together, in US dollars.")
    error: JobError | None
    cancel: CancelAnswer | None = Field(description="The effect of cancelling; null if no cancellation was requested.")
    artifacts: list[ArtifactAnswer]
    metadata: dict[str, str]
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    trace_id: str | None
    trace_url: str | None = Field(default=None, description=TRACE_URL)
    stale: bool = Field(default=False, description=STALE)


class JobPage(Answer):
    """One page of jobs, newest first."""

    jobs: list[JobAnswer]
    next_cursor: str | None = Field(description=NEXT_CURSOR)


class TrackAnswer(Answer):
    """The music of one job."""

    id: str
    job_id: str
    status: JobStatus
    provider: Provider | None = Field(description="The provider that made the music.")
    model: str | None
    audio_url: str | None
    duration_s: float | None = Field(description="The measured length of the audio in seconds.")
    audio_expired_at: datetime | None = Field(
        default=None, description="When the audio was deleted; null while it is kept."
    )
    created_at: datetime
    finished_at: datetime | None
    stale: bool = Field(default=False, description=STALE)


class TrackPage(Answer):
    """One page of tracks, newest first."""

    tracks: list[TrackAnswer]
    next_cursor: str | None = Field(description=NEXT_CURSOR)


class LogEntry(Answer):
    """One event of a job or of one of its attempts."""

    time: datetime
    event: str
    track_id: str | None
    job_id: str
    provider: Provider | None
    attempt: int | None
    error_kind: str | None = Field(description=ERROR_KIND)
    error_code: str | None = Field(description=ERROR_CODE)
    http_status: int | None = Field(description=HTTP_STATUS)
    message: str | None


class JobLog(Answer):
    """All events of a job: causes before effects, even if the services' clocks differ."""

    entries: list[LogEntry]
    trace_id: str | None = Field(default=None, description="The id of the job's trace.")
    trace_url: str | None = Field(default=None, description=TRACE_URL)


class RangeAnswer(Answer):
    """A range from `min` to `max`, both inclusive; null: no bound."""

    min: float | None = None
    max: float | None = None


class LimitsAnswer(Answer):
    """The limits of a route."""

    prompt_chars: RangeAnswer
    duration_s: RangeAnswer
    lyrics_chars: RangeAnswer
    num_images: RangeAnswer
    vocals: Literal["required", "forbidden"] | None = None
    lyrics: Literal["required", "forbidden"] | None = None


class PriceAnswer(Answer):
    """The price of a successful run."""

    usd: float
    per: str


class RouteAnswer(Answer):
    """One provider's endpoint for a model."""

    provider: Provider
    endpoint: str
    substitute: bool = Field(description="Whether the endpoint is a similar model, not the named one.")
    ignores: list[str] = Field(description="Fields of a request that this route ignores.")
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
    """The models of the catalogue."""

    models: list[ModelAnswer]


_HEALTH: Final[dict[str, Any]] = dict.fromkeys(PROVIDERS, Literal["ok", "fail", "disabled"])
_ERRORS: Final[dict[str, Any]] = {f"{name}_error": str | None for name in PROVIDERS}
ProviderHealth: Final[type[Answer]] = create_model(
    "ProviderHealth",
    __base__=Answer,
    __module__=__name__,
    __doc__="The health of each provider: `ok`, `fail` with an error, or `disabled` by SEGUE_PROVIDERS.",
    **(_HEALTH | _ERRORS),
)
