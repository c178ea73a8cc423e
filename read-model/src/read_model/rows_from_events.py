"""The rows that an event reports: the current state of its job, track, attempt and artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from contracts.messages.attempts import (
    Artifact,
    AttemptAmbiguous,
    AttemptCancelled,
    AttemptEvent,
    AttemptFailed,
    AttemptProgressed,
    AttemptSubmitted,
    AttemptSubmitting,
    AttemptSucceeded,
)
from contracts.messages.base import Message
from contracts.messages.jobs import (
    JobAccepted,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRerouted,
    JobStarted,
    JobSucceeded,
)
from contracts.messages.requests import CancelRequested, JobRequested
from read_model.tables import ARTIFACTS, ATTEMPTS, JOBS, TRACKS, Row, Table


def reports(message: Message, trace_id: str | None) -> Iterator[tuple[Table, Row]]:
    """The rows that a message reports, each with its table; none if it does not affect the current state.

    `trace_id` is the message's trace id, 32 hexadecimal digits.
    """
    # The most frequent messages come first: each check of a class takes time, for every event.
    match message:
        case AttemptEvent():
            yield ATTEMPTS, _attempt(message, trace_id)
        case JobEvent():
            yield JOBS, _job(message, trace_id)
            yield TRACKS, _track(message, message.version, message.status) | _track_result(message)
        case JobRequested():
            yield JOBS, _job_of_request(message) | {"trace_id": trace_id}
            yield TRACKS, _track(message, 0, "queued") | _request_columns(message)
        case CancelRequested():
            yield JOBS, _job_of_cancel(message)
    if type(message) is JobSucceeded or type(message) is AttemptSucceeded:
        for artifact in message.artifacts:
            ids = {"attempt_id": message.attempt_id, "job_id": message.job_id}
            yield ARTIFACTS, ids | artifact.model_dump() | {"made_at": message.occurred_at}


def _job_of_request(message: JobRequested) -> dict[str, Any]:
    return {
        "job_id": message.job_id,
        "track_id": message.track_id,
        "tenant": message.tenant,
        "requested_model": message.model,
        "providers": None if message.providers is None else list(message.providers),
        "input": message.input.model_dump(mode="json"),
        "fingerprint": message.fingerprint,
        "metadata": message.metadata,
        "origin": message.origin,
        "first_at": message.occurred_at,
        "updated_at": message.occurred_at,
        "version": 0,
        "status": "queued",
        "plan_version": 0,
        "deadline_at": message.deadline_at,
    } | _request_columns(message)


def _job_of_cancel(message: CancelRequested) -> dict[str, Any]:
    return {
        "job_id": message.job_id,
        "tenant": message.tenant,
        "version": 0,
        "status": "queued",
        "first_at": message.occurred_at,
        "updated_at": message.occurred_at,
        "cancel_asked_at": message.occurred_at,
    }


def _request_columns(message: JobRequested) -> dict[str, Any]:
    return {"modality": message.input.modality, "requested_at": message.occurred_at}


def _job(message: JobEvent, trace_id: str | None) -> dict[str, Any]:
    return {
        "job_id": message.job_id,
        "track_id": message.track_id,
        "tenant": message.tenant,
        "version": message.version,
        "status": message.status,
        "first_at": message.occurred_at,
        "updated_at": message.occurred_at,
        "finished_at": _finished_at(message),
        "trace_id": trace_id,
        **_JOB_COLUMNS[type(message)](message),
    }


def _accepted(message: JobAccepted) -> dict[str, Any]:
    plan = [route.model_dump(mode="json") for route in message.plan]
    return {
        "plan_version": message.version,
        "plan": plan,
        "skipped": [route.model_dump(mode="json") for route in message.skipped],
        "planned_model": plan[0]["model"] if plan else None,
        "deadline_at": message.deadline_at,
    } | ({"placed_version": message.version, "provider": plan[0]["provider"]} if plan else {})


def _started(message: JobStarted) -> dict[str, Any]:
    return _placement(message, message.attempt_id, message.provider) | {"started_at": message.occurred_at}


def _rerouted(message: JobRerouted) -> dict[str, Any]:
    return _placement(message, message.to_attempt_id, message.to_provider)


def _succeeded(message: JobSucceeded) -> dict[str, Any]:
    return _placement(message, message.attempt_id, message.provider) | {"cost_usd": message.cost_usd}


def _failed(message: JobFailed) -> dict[str, Any]:
    error = message.model_dump(mode="json", include={"kind", "message", "attempts"})
    return {"error": error, "cost_usd": message.cost_usd}


def _cancelled(message: JobCancelled) -> dict[str, Any]:
    return {"cancel_effect": message.effect, "cost_usd": message.cost_usd}


_JOB_COLUMNS: Final[Mapping[type[JobEvent], Callable[[Any], dict[str, Any]]]] = {
    JobAccepted: _accepted,
    JobStarted: _started,
    JobRerouted: _rerouted,
    JobSucceeded: _succeeded,
    JobFailed: _failed,
    JobCancelled: _cancelled,
}


def _placement(message: JobEvent, attempt_id: str, provider: str) -> dict[str, Any]:
    return {"placed_version": message.version, "attempt_id": attempt_id, "provider": provider}


def _finished_at(message: JobEvent) -> datetime | None:
    return message.occurred_at if message.status in {"succeeded", "failed", "cancelled"} else None


def _track(message: JobRequested | JobEvent, version: int, status: str) -> dict[str, Any]:
    return {
        "track_id": message.track_id,
        "job_id": message.job_id,
        "tenant": message.tenant,
        "version": version,
        "status": status,
        "first_at": message.occurred_at,
        "updated_at": message.occurred_at,
    }


def _track_result(message: JobEvent) -> dict[str, Any]:
    end = {"finished_at": _finished_at(message)}
    if type(message) is not JobSucceeded:
        return end
    main = next((a for a in message.artifacts if _playable(a)), message.artifacts[0])
    return end | {
        "attempt_id": message.attempt_id,
        "provider": message.provider,
        "model": message.model,
        "artifact_name": main.name,
        "content_type": main.content_type,
        "duration_s": main.duration_s,
    }


def _playable(artifact: Artifact) -> bool:
    return artifact.content_type.startswith("audio/")


def _attempt(message: AttemptEvent, trace_id: str | None) -> dict[str, Any]:
    return {
        "attempt_id": message.attempt_id,
        "job_id": message.job_id,
        "track_id": message.track_id,
        "n": message.n,
        "provider": message.provider,
        "model": message.model,
        "endpoint": message.endpoint,
        "version": message.version,
        "provider_ref": message.provider_ref,
        "first_at": message.occurred_at,
        "updated_at": message.occurred_at,
        "trace_id": trace_id,
        **_ATTEMPT_COLUMNS[type(message)](message),
    }


def _submitting(message: AttemptSubmitting) -> dict[str, Any]:
    return {"state": "submitting", "submitting_at": message.occurred_at}


def _submitted(message: AttemptSubmitted) -> dict[str, Any]:
    return {"state": "running", "submitted_at": message.occurred_at}


def _progressed(message: AttemptProgressed) -> dict[str, Any]:
    progress = {"queue_position": message.queue_position, "message": message.message}
    return progress | {"state": _STATE_OF_STAGE[message.stage]}


def _ambiguous(message: AttemptAmbiguous) -> dict[str, Any]:
    return {"state": "ambiguous", "message": message.message, "resolve_by": message.resolve_by}


def _attempt_succeeded(message: AttemptSucceeded) -> dict[str, Any]:
    outcome = {"message": message.missing, "cost_usd": message.cost_usd, "late": message.late}
    return {"finished_at": message.occurred_at, "state": "succeeded", "accepted": True} | outcome


def _attempt_cancelled(message: AttemptCancelled) -> dict[str, Any]:
    cost_usd = None if message.may_have_cost else 0.0
    outcome = {"message": message.message, "cost_usd": cost_usd, "late": message.late}
    return {"finished_at": message.occurred_at, "state": "cancelled"} | outcome


def _attempt_failed(message: AttemptFailed) -> dict[str, Any]:
    names = ("error_code", "message", "http_status", "accepted", "late")
    outcome = {name: getattr(message, name) for name in names} | {"cost_usd": message.known_cost_usd}
    return {"finished_at": message.occurred_at, "state": "failed", "error_kind": message.kind} | outcome


_ATTEMPT_COLUMNS: Final[Mapping[type[AttemptEvent], Callable[[Any], dict[str, Any]]]] = {
    AttemptSubmitting: _submitting,
    AttemptSubmitted: _submitted,
    AttemptProgressed: _progressed,
    AttemptAmbiguous: _ambiguous,
    AttemptSucceeded: _attempt_succeeded,
    AttemptCancelled: _attempt_cancelled,
    AttemptFailed: _attempt_failed,
}
_STATE_OF_STAGE: Final = {
    # In the first two stages the provider has not accepted the run: the attempt waits in Segue to be submitted again.
    "throttled": "queued",
    "unreachable": "queued",
    "queued": "running",
    "running": "running",
    "collecting": "collecting",
    "stored": "collecting",
}
