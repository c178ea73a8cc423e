"""What every command and event has in common."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final, Protocol, TypeVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, FailFast, Field, StringConstraints

from contracts.ids import ATTEMPT_ID_PATTERN, JOB_ID_PATTERN, AttemptId, JobId, TrackId, event_id_for, job_of

JobIdField = Annotated[JobId, StringConstraints(pattern=JOB_ID_PATTERN)]
TrackIdField = Annotated[TrackId, StringConstraints(pattern=JOB_ID_PATTERN)]
AttemptIdField = Annotated[AttemptId, StringConstraints(pattern=ATTEMPT_ID_PATTERN)]


class _FirstError(FailFast):
    __hash__ = object.__hash__  # Python 3.11 wants it of what is part of a union.


T = TypeVar("T")
Items = Annotated[tuple[T, ...], _FirstError()]
"""Several of something. The first that is wrong is enough: a megabyte of wrong ones would take a minute to be told."""

_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(3000, 1, 1, tzinfo=UTC)


def _is_of_this_age(moment: datetime) -> datetime:
    if not _FIRST <= moment < _LAST:
        raise ValueError("is not between the years 1970 and 3000")
    return moment


Timestamp = Annotated[AwareDatetime, AfterValidator(_is_of_this_age)]
"""A time that every database can hold, whatever is added to it or taken from it."""


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
    occurred_at: Timestamp = Field(description="When it happened, not when it was published.")

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
