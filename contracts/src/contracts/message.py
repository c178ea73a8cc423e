"""What every command and event has in common."""

from __future__ import annotations

from typing import Annotated, ClassVar, Protocol
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from contracts.ids import ATTEMPT_ID_PATTERN, JOB_ID_PATTERN, AttemptId, JobId, TrackId, event_id_for, job_of

JobIdField = Annotated[JobId, StringConstraints(pattern=JOB_ID_PATTERN)]
TrackIdField = Annotated[TrackId, StringConstraints(pattern=JOB_ID_PATTERN)]
AttemptIdField = Annotated[AttemptId, StringConstraints(pattern=ATTEMPT_ID_PATTERN)]


def require_own_attempt(message: OfAttempt) -> None:
    """Raises ValueError if the message's attempt is not one of its job's."""
    if job_of(message.attempt_id) != message.job_id:
        raise ValueError("attempt_id is not one of job_id's")


class OfAttempt(Protocol):
    """A message about an attempt."""

    @property
    def job_id(self) -> JobId:
        """The job it belongs to."""
        ...

    @property
    def attempt_id(self) -> AttemptId:
        """The attempt."""
        ...


class Message(BaseModel):
    """One Kafka message's body; the key on every topic is its job's id.

    Unknown fields are ignored, so that a newer producer can add some (changes within a major are additive).
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, ser_json_inf_nan="null")
    TYPE: ClassVar[str]

    job_id: JobIdField
    occurred_at: AwareDatetime = Field(description="When it happened, not when it was published.")

    @property
    def subject(self) -> str:
        """What the message is about: the attempt or the job."""
        return self.job_id

    @property
    def event_id(self) -> UUID:
        """The same for every repeat of the same message."""
        return event_id_for(self.subject, self.TYPE, self.revision)

    @property
    def revision(self) -> int:
        """Which of the subject's messages of this type it is; 0 where there is only one."""
        return 0
