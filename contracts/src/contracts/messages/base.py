"""The base of every command and event, and the types of their fields."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final, Protocol, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, FailFast, Field, StringConstraints

from contracts.ids import ATTEMPT_ID_PATTERN, JOB_ID_PATTERN, AttemptId, JobId, TrackId, event_id_for

JobIdField = Annotated[JobId, StringConstraints(pattern=JOB_ID_PATTERN)]
TrackIdField = Annotated[TrackId, StringConstraints(pattern=JOB_ID_PATTERN)]
AttemptIdField = Annotated[AttemptId, StringConstraints(pattern=ATTEMPT_ID_PATTERN)]


class _FirstError(FailFast):
    __hash__ = object.__hash__  # Python 3.11 wants it of what is part of a union.


T = TypeVar("T")
Items = Annotated[tuple[T, ...], _FirstError()]
"""A tuple whose validation stops at the first invalid item: reporting a megabyte of invalid ones takes a minute."""

_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(3000, 1, 1, tzinfo=UTC)

Timestamp = Annotated[AwareDatetime, Field(ge=_FIRST, lt=_LAST)]
"""A time that databases can store, also after a duration is added or subtracted."""


class OfAttempt(Protocol):
    """A message about an attempt."""

    @property
    def job_id(self) -> JobId:
        """The job's id."""
        ...

    @property
    def attempt_id(self) -> AttemptId:
        """The attempt's id."""
        ...


M = TypeVar("M", bound=OfAttempt)


def require_own_attempt(message: M) -> M:
    """The message, as a validator returns it. Raises ValueError if its attempt does not belong to its job."""
    require_attempts_of(message.job_id, attempt_id=message.attempt_id)
    return message


def require_attempts_of(job_id: JobId, **attempt_ids: AttemptId) -> None:
    """Raises ValueError, with the field's name, if an attempt is not one of the job; each has the form of an id."""
    for field, attempt_id in attempt_ids.items():
        if attempt_id.rpartition(".")[0] != job_id:
            raise ValueError(f"{field} is not one of job_id's")


class Message(BaseModel):
    """The body of a Kafka message; the message's key is the job's id.

    Unknown fields are ignored, so that a newer producer can add fields within a major version.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, ser_json_inf_nan="null")
    TYPE: ClassVar[str]
    AWAITED: ClassVar[bool] = True
    """Whether a job goes on with it, or ends. Others only report, and are published together with what comes next."""

    job_id: JobIdField
    occurred_at: Timestamp = Field(description="When it happened, not when it was published.")

    @property
    def subject(self) -> str:
        """The id of the attempt or job that the message is about."""
        return self.job_id

    @property
    def event_id(self) -> UUID:
        """The id of the message; a repeat of the message has the same one."""
        return event_id_for(self.subject, self.TYPE, self.revision)

    @property
    def revision(self) -> int:
        """Distinguishes messages of one type about the same subject; 0 if there can be only one."""
        return 0
