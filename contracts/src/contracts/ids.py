"""The ids of jobs, tracks, attempts and events. They are derived, so that a repeat has the same id."""

from __future__ import annotations

import re
from hashlib import sha1
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
ATTEMPT_PATTERN = rf"{UUID_PATTERN}\.[1-9][0-9]{{0,3}}"
ATTEMPT_ID_PATTERN = rf"^{ATTEMPT_PATTERN}$"
_ATTEMPT_ID = re.compile(ATTEMPT_ID_PATTERN)


def _uuid5(namespace: UUID, name: str) -> str:
    """The text of `uuid.uuid5`, which takes three times as long to make an object of it first."""
    digest = sha1(namespace.bytes + name.encode(), usedforsecurity=False).hexdigest()
    # RFC 9562 section 5.5: the version takes 4 bits of the hash, and the variant 2.
    variant = "89ab"[int(digest[16], 16) % 4]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def job_id_for(tenant: str, idempotency_key: str) -> JobId:
    """The id of the job for a tenant's idempotency key; the same in every replica, before and after a restart."""
    # Neither part contains NUL, so no tenant can produce the id of another tenant's job.
    return JobId(_uuid5(JOB_NAMESPACE, f"{tenant}\0{idempotency_key}"))


def track_id_for(job_id: JobId) -> TrackId:
    """The id of the job's track."""
    return TrackId(_uuid5(TRACK_NAMESPACE, job_id))


def attempt_id_for(job_id: JobId, n: int) -> AttemptId:
    """The id of the n-th attempt of a job; `n` counts from 1."""
    return AttemptId(f"{job_id}.{n}")


def job_of(attempt_id: AttemptId) -> JobId:
    """The id of the attempt's job. Raises ValueError if `attempt_id` is not the id of an attempt."""
    if not _ATTEMPT_ID.fullmatch(attempt_id):
        raise ValueError(f"not an attempt id: {attempt_id!r}")
    return JobId(attempt_id.rpartition(".")[0])


def number_of(attempt_id: AttemptId) -> int:
    """The number of an attempt within its job, from 1."""
    return int(attempt_id.rpartition(".")[2])


def event_id_for(subject: str, event_type: str, version: int) -> UUID:
    """The id of an event; a repeat of the event has the same id, so consumers can discard it."""
    return uuid5(EVENT_NAMESPACE, f"{subject}|{event_type}|{version}")
