"""Makes the response models of jobs, tracks and log lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from contracts.failures import FAILURES, FailureKind
from gateway.queries.model import Attempt, Job, LogLine, StoredArtifact, Track
from gateway.views.cancellation import cancel_answer_if_requested
from gateway.views.schemas import (
    AcceptedAnswer,
    ArtifactAnswer,
    AttemptAnswer,
    CancelAnswer,
    FailedAttempt,
    JobAnswer,
    JobError,
    JobLog,
    Links,
    LogEntry,
    TrackAnswer,
)


@dataclass(frozen=True, slots=True)
class Presenter:
    """Makes responses with URLs that start with `base`, which is empty if no public URL is set."""

    base: str
    trace_template: str | None = None
    """The URL that shows a trace, with `{trace_id}` for its id; None: traces have no URL."""

    def accepted(self, job_id: str, track_id: str, trace_id: str | None) -> AcceptedAnswer:
        """The response to an accepted request; the same for every repeat."""
        links = Links(job=self.job_url(job_id), track=f"{self.base}/api/tracks/{track_id}", logs=self.logs_url(job_id))
        trace_url = self.trace_url(trace_id)
        return AcceptedAnswer(job_id=job_id, track_id=track_id, trace_id=trace_id, trace_url=trace_url, links=links)

    def job(self, job: Job, *, stale: bool = False, cancel: CancelAnswer | None = None) -> JobAnswer:
        """A job with its attempts and files; `cancel` overrides the effect of the cancellation that the job implies."""
        current = job.attempts[-1] if job.attempts and not job.final else None
        return JobAnswer(
            id=job.job_id,
            track_id=job.track_id,
            status=job.status,
            model=job.model,
            provider=job.provider,
            attempts=[self._attempt(job, attempt) for attempt in job.attempts],
            queue_position=current.queue_position if current else None,
            cost_usd=job.total_cost_usd,
            error=_error(job),
            cancel=cancel or cancel_answer_if_requested(job),
            artifacts=[self._artifact(job.job_id, artifact) for artifact in job.artifacts],
            metadata=job.metadata or {},
            requested_at=job.requested_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            deadline_at=job.deadline_at,
            trace_id=job.trace_id,
            trace_url=self.trace_url(job.trace_id),
            stale=stale,
        )

    def track(self, track: Track, *, stale: bool = False) -> TrackAnswer:
        """A track, with the URL of its audio once that is made."""
        name = track.artifact_name
        return TrackAnswer(
            id=track.track_id,
            job_id=track.job_id,
            status=track.status,
            provider=track.provider,
            model=track.model,
            audio_url=None if name is None else self._artifact_url(track.job_id, name),
            duration_s=track.duration_s,
            audio_expired_at=track.expired_at,
            created_at=track.created_at,
            finished_at=track.finished_at,
            stale=stale,
        )

    def job_url(self, job_id: str) -> str:
        """The URL of a job."""
        return f"{self.base}/api/jobs/{job_id}"

    def logs_url(self, job_id: str) -> str:
        """The URL of a job's log."""
        return f"{self.job_url(job_id)}/logs"

    def log(self, job: Job, lines: Iterable[LogLine]) -> JobLog:
        """A job's log."""
        entries = [log_entry(line, job.job_id, job.track_id) for line in lines]
        return JobLog(entries=entries, trace_id=job.trace_id, trace_url=self.trace_url(job.trace_id))

    def trace_url(self, trace_id: str | None) -> str | None:
        """The URL that shows a trace; None if there is none."""
        if self.trace_template is None or trace_id is None:
            return None
        return self.trace_template.replace("{trace_id}", trace_id)

    def _artifact_url(self, job_id: str, name: str, attempt: int | None = None) -> str:
        query = f"?attempt={attempt}" if attempt else ""
        return f"{self.job_url(job_id)}/artifacts/{quote(name, safe='')}{query}"

    def _artifact(self, job_id: str, artifact: StoredArtifact, attempt: int | None = None) -> ArtifactAnswer:
        return ArtifactAnswer(
            name=artifact.name,
            url=self._artifact_url(job_id, artifact.name, attempt),
            content_type=artifact.content_type,
            size_bytes=artifact.size_bytes,
            sha256=artifact.sha256,
            duration_s=artifact.duration_s,
            expired_at=artifact.expired_at,
        )

    def _attempt(self, job: Job, attempt: Attempt) -> AttemptAnswer:
        return AttemptAnswer(
            id=job.attempt_id(attempt),
            attempt=attempt.n,
            provider=attempt.provider,
            endpoint=attempt.endpoint,
            state=attempt.state,
            provider_ref=attempt.provider_ref,
            error_kind=attempt.kind,
            error_code=attempt.code,
            http_status=attempt.http_status,
            message=attempt.message,
            cost_usd=attempt.cost_usd,
            late=attempt.late or bool(attempt.late_artifacts),
            late_artifacts=[self._artifact(job.job_id, artifact, attempt.n) for artifact in attempt.late_artifacts],
            resolve_by=attempt.resolve_by,
            submitting_at=attempt.submitting_at,
            submitted_at=attempt.submitted_at,
            finished_at=attempt.finished_at,
        )


def log_entry(line: LogLine, job_id: str, track_id: str | None) -> LogEntry:
    """One line of a job's log."""
    return LogEntry(
        time=line.time,
        event=line.event,
        track_id=track_id,
        job_id=job_id,
        provider=line.provider,
        attempt=line.attempt,
        error_kind=line.error_kind,
        error_code=line.error_code,
        http_status=line.http_status,
        message=line.message,
    )


def _error(job: Job) -> JobError | None:
    if job.error_kind is None:
        return None
    # A late attempt may have another error now than when the job failed.
    at_end = {outcome.n: outcome for outcome in job.outcomes}
    ended = [at_end.get(attempt.n, attempt) if attempt.late else attempt for attempt in job.attempts]
    failed = [
        FailedAttempt(
            attempt=each.n,
            provider=each.provider,
            kind=each.kind,
            error_code=each.error_code or each.kind,
            message=each.message,
        )
        for each in ended
        if (each.state if isinstance(each, Attempt) else each.outcome) != "succeeded"
    ]
    return JobError(
        kind=job.error_kind,
        message=job.error_message or "",
        callers_fault=FAILURES[FailureKind(job.error_kind)].callers_fault,
        attempts=failed,
    )
