"""Names of things: how jobs, tracks, attempts and events are identified, so that a repeat is the same thing."""

from __future__ import annotations

import re
from typing import NewType
from uuid import NAMESPACE_URL, UUID, uuid5

JobId = NewType("JobId", str)
TrackId = NewType("TrackId", str)
AttemptId = NewType("AttemptId", str)

JOB_NAMESPACE = uuid5(NAMESPACE_URL, "urn:segue:job")
TRACK_NAMESPACE = uuid5(NAMESPACE_URL, "urn:segue:track")
EVENT_NAMESPACE = uuid5(NAMESPACE_URL, "urn:segue:event")

UUID_PATTERN = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
JOB_ID_PATTERN = rf"^{UUID_PATTERN}$"
ATTEMPT_ID_PATTERN = rf"^{UUID_PATTERN}\.[1-9][0-9]{{0,3}}$"
_ATTEMPT_ID = re.compile(ATTEMPT_ID_PATTERN)


def job_id_for(tenant: str, idempotency_key: str) -> JobId:
    """The job that this tenant's key names; every replica, before and after a crash, derives the same one."""
    # NUL occurs in neither, so no tenant can spell another one's job.
    return JobId(str(uuid5(JOB_NAMESPACE, f"{tenant}\0{idempotency_key}")))


def track_id_for(job_id: JobId) -> TrackId:
    """The track that this job makes."""
    return TrackId(str(uuid5(TRACK_NAMESPACE, job_id)))


def attempt_id_for(job_id: JobId, n: int) -> AttemptId:
    """The n-th attempt of a job, n from 1."""
    return AttemptId(f"{job_id}.{n}")


def job_of(attempt_id: AttemptId) -> JobId:
    """The job that an attempt belongs to. Raises ValueError if the id is not an attempt's."""
    if not _ATTEMPT_ID.fullmatch(attempt_id):
        raise ValueError(f"not an attempt id: {attempt_id!r}")
    return JobId(attempt_id.rpartition(".")[0])


def number_of(attempt_id: AttemptId) -> int:
    """Which attempt of its job it is, from 1."""
    return int(attempt_id.rpartition(".")[2])


def event_id_for(subject: str, event_type: str, version: int) -> UUID:
    """The id of an event; saying the same thing again gives the same id, so consumers can drop the repeat."""
    return uuid5(EVENT_NAMESPACE, f"{subject}|{event_type}|{version}")
