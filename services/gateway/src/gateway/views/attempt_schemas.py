"""What the API answers about single attempts: the shapes that operators read."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from contracts.generation import Provider
from contracts.messages.attempts import AttemptState
from contracts.messages.jobs import JobStatus
from gateway.http.plain import Answer
from gateway.views.schemas import ERROR_CODE


class OperatorsAttempt(Answer):
    """One attempt, with what it takes to find its run at the provider."""

    id: str
    job_id: str
    track_id: str
    attempt: int = Field(description="Which try of its job it was, from 1.")
    provider: Provider
    model: str
    endpoint: str | None = Field(description="The provider's name for the model.")
    state: AttemptState
    ambiguous: bool = Field(description="Whether the provider accepted it is not known; an operator may say so.")
    late: bool = Field(description="It said more after it had ended; the job goes by what it had said first.")
    provider_ref: str | None = Field(description="The provider's own id for the run.")
    error_kind: str | None = Field(description="What went wrong, from Segue's closed list.")
    error_code: str | None = Field(description=ERROR_CODE)
    http_status: int | None = Field(description="The status with which the provider refused it.")
    message: str | None = Field(description="The provider's own words.")
    cost_usd: float | None
    price_usd: float | None = Field(description="What a run is expected to cost: at stake, while it is ambiguous.")
    prompt: str | None = Field(description="How the prompt begins.")
    look_for: str | None = Field(description="Ambiguous: what to look for at the provider.")
    submitting_at: datetime | None
    submitted_at: datetime | None
    finished_at: datetime | None
    resolve_by: datetime | None = Field(description="Ambiguous: when silence becomes an answer.")
    job_status: JobStatus
    job_deadline_at: datetime | None


class AttemptPage(Answer):
    """Some attempts, the newest first."""

    attempts: list[OperatorsAttempt]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


class ResolutionAnswer(Answer):
    """The operator's verdict is safe in Kafka, and on its way to the adapter."""

    attempt_id: str
    job_id: str
    message: str = Field(description="What follows for the job and for the money.")


class CollectionAnswer(Answer):
    """The wish to fetch an output again is safe in Kafka, and on its way to the adapter."""

    attempt_id: str
    job_id: str
    message: str = Field(description="What follows.")
