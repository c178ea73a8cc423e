"""The rows that an event reports: the current state of its job, track, attempt and artifacts."""

from __future__ import annotations

from collections.abc import Iterator
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
    match message:
        case JobRequested():
            yield JOBS, _job_of_request(message) | {"trace_id": trace_id}
            yield TRACKS, _track(message, 0, "queued") | _request_columns(message)
        case CancelRequested():
            yield JOBS, _job_of_cancel(message)
        case JobEvent():
            yield JOBS, _job(message) | {"trace_id": trace_id}
            yield TRACKS, _track(message, message.version, message.status) | _track_result(message)
        case AttemptEvent():
            yield ATTEMPTS, _attempt(message) | {"trace_id": trace_id}
    if isinstance(message, JobSucceeded | AttemptSucceeded):
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


def _job(message: JobEvent) -> dict[str, Any]:
    return {
        "job_id": message.job_id,
        "track_id": message.track_id,
        "tenant": message.tenant,
        "version": message.version,
        "status": message.status,
        "first_at": message.occurred_at,
        "updated_at": message.occurred_at,
        "finished_at": _finished_at(message),
    } | _job_columns(message)


def _job_columns(message: JobEvent) -> dict[str, Any]:
    match message:
        case JobAccepted():
            plan = [route.model_dump(mode="json") for route in message.plan]
            return {
                "plan_version": message.version,
                "plan": plan,
                "skipped": [route.model_dump(mode="json") for route in message.skipped],
                "planned_model": plan[0]["model"] if plan else None,
                "deadline_at": message.deadline_at,
            } | ({"placed_version": message.version, "provider": plan[0]["provider"]} if plan else {})
        case JobStarted():
            return _placement(message, message.attempt_id, message.provider) | {"started_at": message.occurred_at}
        case JobRerouted():
            return _placement(message, message.to_attempt_id, message.to_provider)
        case JobSucceeded():
            return _placement(message, message.attempt_id, message.provider) | {"cost_usd": message.cost_usd}
        case JobFailed():
            error = message.model_dump(mode="json", include={"kind", "message", "attempts"})
            return {"error": error, "cost_usd": message.cost_usd}
        case JobCancelled():
            return {"cancel_effect": message.effect, "cost_usd": message.cost_usd}
    return {}


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
    if not isinstance(message, JobSucceeded):
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


def _attempt(message: AttemptEvent) -> dict[str, Any]:
    same = ("attempt_id", "job_id", "track_id", "n", "provider", "model", "endpoint", "version", "provider_ref")
    times = {"first_at": message.occurred_at, "updated_at": message.occurred_at}
    return {name: getattr(message, name) for name in same} | times | _attempt_columns(message)


def _attempt_columns(message: AttemptEvent) -> dict[str, Any]:
    end = {"finished_at": message.occurred_at}
    match message:
        case AttemptSubmitting():
            return {"state": "submitting", "submitting_at": message.occurred_at}
        case AttemptSubmitted():
            return {"state": "running", "submitted_at": message.occurred_at}
        case AttemptProgressed():
            progress = {"queue_position": message.queue_position, "message": message.message}
            return progress | {"state": _STATE_OF_STAGE[message.stage]}
        case AttemptAmbiguous():
            return {"state": "ambiguous", "message": message.message, "resolve_by": message.resolve_by}
        case AttemptSucceeded():
            outcome = {"message": message.missing, "cost_usd": message.cost_usd, "late": message.late}
            return end | {"state": "succeeded", "accepted": True} | outcome
        case AttemptCancelled():
            cost_usd = None if message.may_have_cost else 0.0
            outcome = {"message": message.message, "cost_usd": cost_usd, "late": message.late}
            return end | {"state": "cancelled"} | outcome
        case AttemptFailed():
            names = ("error_code", "message", "http_status", "accepted", "late")
            outcome = {name: getattr(message, name) for name in names} | {"cost_usd": message.known_cost_usd}
            return end | {"state": "failed", "error_kind": message.kind} | outcome
    raise TypeError(f"unknown attempt event: {message.TYPE}")


_STATE_OF_STAGE: Final = {
    # In the first two stages the provider has not accepted the run: the attempt waits in Segue to be submitted again.
    "throttled": "queued",
    "unreachable": "queued",
    "queued": "running",
    "running": "running",
    "collecting": "collecting",
    "stored": "collecting",
}
