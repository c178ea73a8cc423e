"""How the read model's rows become what the gateway works with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import asyncpg

from contracts.messages.jobs import AttemptOutcome
from gateway.queries.model import Attempt, AttemptOfJob, Job, LogLine, StoredArtifact, Track

Row = asyncpg.Record


def by_job(rows: Iterable[Row]) -> defaultdict[str, list[Row]]:
    """The rows of each job."""
    grouped: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["job_id"]].append(row)
    return grouped


def job_of(row: Row, attempts: Sequence[Row], artifacts: Sequence[Row]) -> Job:
    """A job, with its attempts and files."""
    error = row["error"] or {}
    made = [each for each in artifacts if each["attempt_id"] == row["attempt_id"] and row["status"] == "succeeded"]
    return Job(
        job_id=row["job_id"],
        track_id=row["track_id"],
        tenant=row["tenant"],
        status=row["status"],
        version=row["version"],
        requested_at=row["requested_at"],
        updated_at=row["updated_at"],
        model=row["model"],
        provider=row["provider"],
        deadline_at=row["deadline_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        attempts=tuple(
            attempt_of(each, [file for file in artifacts if file["attempt_id"] == each["attempt_id"]])
            for each in attempts
        ),
        artifacts=tuple(_artifact(each) for each in made),
        artifacts_of=row["attempt_id"] if made else None,
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


def attempt_of(row: Row, artifacts: Sequence[Row]) -> Attempt:
    """An attempt; of its files it keeps those that are not its job's."""
    # What comes late is not the job's, even while the job is still under way elsewhere.
    late = [each for each in artifacts if each["late"] or row["late"]]
    return Attempt(
        n=row["n"],
        provider=row["provider"],
        state=row["state"],
        endpoint=row["endpoint"],
        provider_ref=row["provider_ref"],
        queue_position=row["queue_position"],
        kind=row["error_kind"],
        error_code=row["error_code"],
        http_status=row["http_status"],
        message=row["message"],
        cost_usd=row["cost_usd"],
        late=row["late"],
        late_artifacts=tuple(_artifact(each) for each in late),
        resolve_by=row["resolve_by"],
        submitting_at=row["submitting_at"],
        submitted_at=row["submitted_at"],
        finished_at=row["finished_at"],
        updated_at=row["updated_at"],
    )


def attempt_of_job(row: Row) -> AttemptOfJob:
    """An attempt beside its job."""
    return AttemptOfJob(
        attempt_id=row["attempt_id"],
        job_id=row["job_id"],
        track_id=row["track_id"],
        model=row["model"],
        attempt=replace(attempt_of(row, ()), late=row["late"] or row["has_late_files"]),
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
        expired_at=row["expired_at"],
        kept_days=row["kept_days"],
    )


def track_of_row(row: Row) -> Track:
    """A track."""
    return Track(
        track_id=row["track_id"],
        job_id=row["job_id"],
        status=row["status"],
        created_at=row["created_at"],
        provider=row["provider"],
        model=row["model"],
        artifact_name=row["artifact_name"],
        duration_s=row["duration_s"],
        expired_at=row["expired_at"],
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
        # A log-sink that is older than this gateway has not made the columns yet.
        version=row.get("version"),
        provider_ref=row.get("provider_ref"),
        late=bool(row.get("late")),
        answers_to=row.get("answers_to"),
    )
