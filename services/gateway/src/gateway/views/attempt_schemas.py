"""The response models for attempts."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from contracts.generation import Provider
from contracts.messages.attempts import AttemptState
from contracts.messages.jobs import JobStatus
from gateway.http.plain import Answer
from gateway.views.schemas import ERROR_CODE, ERROR_KIND, HTTP_STATUS, LATE, MESSAGE, RESOLVE_BY


class OperatorsAttempt(Answer):
    """One attempt, with the data to find its run at the provider."""

    id: str
    job_id: str
    track_id: str
    attempt: int = Field(description="The number of the attempt within its job, from 1.")
    provider: Provider
    model: str
    endpoint: str | None = Field(description="The provider's name for the model.")
    state: AttemptState
    ambiguous: bool = Field(description="Whether the provider accepted it is not known; an operator may resolve it.")
    late: bool = Field(description=LATE)
    provider_ref: str | None = Field(description="The provider's own id for the run.")
    error_kind: str | None = Field(description=ERROR_KIND)
    error_code: str | None = Field(description=ERROR_CODE)
    http_status: int | None = Field(description=HTTP_STATUS)
    message: str | None = Field(description=MESSAGE)
    cost_usd: float | None
    price_usd: float | None = Field(description="The expected cost of the run in US dollars, by today's catalogue.")
    prompt: str | None = Field(description="The beginning of the prompt.")
    look_for: str | None = Field(description="Ambiguous: what to look for at the provider.")
    submitting_at: datetime | None
    submitted_at: datetime | None
    finished_at: datetime | None
    resolve_by: datetime | None = Field(description=RESOLVE_BY)
    job_status: JobStatus
    job_deadline_at: datetime | None


class AttemptPage(Answer):
    """One page of attempts, newest first."""

    attempts: list[OperatorsAttempt]
    next_cursor: str | None = Field(description="The cursor of the next page; null on the last.")


class ResolutionAnswer(Answer):
    """A confirmed resolution: Kafka has stored it, and the adapter will apply it."""

    attempt_id: str
    job_id: str
    message: str = Field(description="The consequences for the job and its cost.")


class CollectionAnswer(Answer):
    """A confirmed request to fetch an output again: Kafka has stored it, and the adapter will act on it."""

    attempt_id: str
    job_id: str
    message: str = Field(description="What happens next.")
