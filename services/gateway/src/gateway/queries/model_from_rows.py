"""Converts rows of the read model, from PostgreSQL or from the tail, to the types of `model`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from contracts.messages.jobs import AttemptOutcome
from gateway.queries.model import FINAL, FINAL_ATTEMPT, Attempt, AttemptOfJob, Job, LogLine, StoredArtifact, Track
from read_model.attempts_from_job_events import IMPLIED
from read_model.merge import State, row_of, rows_of
from read_model.tables import ARTIFACTS, ATTEMPTS, JOBS, TRACKS, Row


def job_row(state: State) -> Row | None:
    """The job's own row; None if no event but a request to cancel the job has arrived."""
    row = row_of(state, JOBS)
    return None if row is None or row["track_id"] is None else row


def job_of(state: State) -> Job | None:
    """The job in the rows of `state`; None if no event but a request to cancel the job has arrived."""
    row = job_row(state)
    if row is None:
        return None
    error = row["error"] or {}
    files = [file for _, file in sorted(rows_of(state, ARTIFACTS).items())]
    own = [file for file in files if row["status"] == "succeeded" and file["attempt_id"] == row["attempt_id"]]
    return Job(
        job_id=row["job_id"],
        track_id=row["track_id"],
        tenant=row["tenant"],
        status=row["status"],
        version=row["version"],
        requested_at=row["requested_at"] or row["first_at"],
        model=row["planned_model"] if row["requested_model"] is None else row["requested_model"],
        provider=row["provider"],
        deadline_at=row["deadline_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        attempts=tuple(
            attempt_of(each, [file for file in files if _is_late(file, each, row)]) for each in _attempts(state, row)
        ),
        artifacts=tuple(_artifact(each) for each in own),
        artifacts_of=row["attempt_id"] if own else None,
        cost_usd=row["cost_usd"],
        error_kind=error.get("kind"),
        error_message=error.get("message"),
        outcomes=tuple(AttemptOutcome.model_validate(each) for each in error.get("attempts") or ()),
        cancel_asked_at=row["cancel_asked_at"],
        cancel_effect=row["cancel_effect"],
        metadata=row["metadata"],
        fingerprint=row["fingerprint"],
        trace_id=row["trace_id"],
    )


def _is_late(file: Row, attempt: Row, job: Row) -> bool:
    """Whether a file of the attempt is not a result of the job: the attempt is late, or the job ended without it."""
    if file["attempt_id"] != attempt["attempt_id"]:
        return False
    made_the_job = job["status"] == "succeeded" and job["attempt_id"] == attempt["attempt_id"]
    return bool(attempt.get("late")) or (job["status"] in FINAL and not made_the_job)


def _attempts(state: State, job: Row) -> list[Row]:
    """The attempts by number, including those that only the job's events report.

    If the job's events report the end of an attempt and its own events do not yet, the job's events decide.
    """
    rows = rows_of(state, ATTEMPTS)
    for key, implied in rows_of(state, IMPLIED).items():
        known = rows.get(key)
        if known is None:
            routes = (route for route in job["plan"] or () if route["provider"] == implied["provider"])
            rows[key] = {**implied, "endpoint": next((route["endpoint"] for route in routes), None)}
        elif implied["state"] in FINAL_ATTEMPT and known["state"] not in FINAL_ATTEMPT:
            end = {name: value for name, value in implied.items() if value is not None}
            # What an attempt said while it ran, such as why a file could not be had yet, is over with it.
            rows[key] = {**known, "message": None, **end}
    return sorted(rows.values(), key=lambda row: row["n"])


def attempt_of(row: Row, late_artifacts: Iterable[Row] = ()) -> Attempt:
    """An attempt with its late files. A row that only the job's events imply lacks some columns."""
    return Attempt(
        n=row["n"],
        provider=row["provider"],
        state=row["state"],
        endpoint=row["endpoint"],
        provider_ref=row.get("provider_ref"),
        queue_position=row.get("queue_position"),
        kind=row["error_kind"],
        error_code=row["error_code"],
        http_status=row["http_status"],
        message=row["message"],
        cost_usd=row["cost_usd"],
        late=bool(row.get("late")),
        late_artifacts=tuple(_artifact(each) for each in late_artifacts),
        resolve_by=row.get("resolve_by"),
        submitting_at=row.get("submitting_at"),
        submitted_at=row.get("submitted_at"),
        finished_at=row["finished_at"],
    )


def attempt_of_job(row: Row) -> AttemptOfJob:
    """An attempt with columns of its job."""
    return AttemptOfJob(
        attempt_id=row["attempt_id"],
        job_id=row["job_id"],
        track_id=row["track_id"],
        model=row["model"],
        attempt=replace(attempt_of(row), late=row["late"] or row["has_late_files"]),
        first_at=row["first_at"],
        ambiguous=row["ambiguous"],
        job_status=row["job_status"],
        deadline_at=row["deadline_at"],
        input=row["input"] or {},
    )


def _artifact(row: Row) -> StoredArtifact:
    return StoredArtifact(
        name=row["name"],
        content_type=row["content_type"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        duration_s=row["duration_s"],
        width=row["width"],
        height=row["height"],
        expired_at=row.get("expired_at"),
        kept_days=row.get("kept_days"),
    )


def track_of(state: State) -> Track | None:
    """The track in the rows of `state`; None if there is none."""
    row = row_of(state, TRACKS)
    if row is None:
        return None
    return Track(
        track_id=row["track_id"],
        job_id=row["job_id"],
        status=row["status"],
        created_at=row["requested_at"] or row["first_at"],
        modality=row["modality"],
        provider=row["provider"],
        model=row["model"],
        artifact_name=row["artifact_name"],
        duration_s=row["duration_s"],
        expired_at=row.get("expired_at"),
        finished_at=row["finished_at"],
    )


def log_line_of(row: Row) -> LogLine:
    """A line of a job's log."""
    return LogLine(
        event_id=row["event_id"],
        time=row["time"],
        event=row["event"],
        provider=row["provider"],
        attempt=row["attempt"],
        error_kind=row["error_kind"],
        error_code=row["error_code"],
        http_status=row["http_status"],
        message=row["message"],
        # The view lacks these columns while the log sink is of an older release than the gateway.
        version=row.get("version"),
        provider_ref=row.get("provider_ref"),
        late=bool(row.get("late")),
        answers_to=row.get("answers_to"),
    )
