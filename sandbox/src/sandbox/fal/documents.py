"""fal's JSON documents about a job."""

import json
import time
from typing import Any

from sandbox.runs.job import Job
from sandbox.settings import Settings
from sandbox.times import iso


def queue_urls(base: str, job: Job) -> dict[str, str]:
    """The URLs in the answer to a submit; they contain the app only, not the path below it."""
    owner, app, *_ = job.endpoint.name.split("/")
    url = f"{base}/{owner}/{app}/requests/{job.id}"
    return {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}


def status_document(job: Job, base: str, position: int, *, with_logs: bool) -> tuple[int, dict[str, Any]]:
    """The HTTP status and body of a status poll."""
    document: dict[str, Any] = {"request_id": job.id} | queue_urls(base, job)
    if job.action.unknown_status:
        return 202, document | {"status": job.action.unknown_status, "logs": None}
    if job.status == "queued":
        shown = position if job.action.queue_position is None else job.action.queue_position
        return 202, document | {"status": "IN_QUEUE", "queue_position": shown}
    logs = _logs(job) if with_logs else None
    if job.outcome is None:
        return 202, document | {"status": "IN_PROGRESS", "logs": logs}
    took = (job.ended_at or 0) - (job.started_at or job.ended_at or 0)
    document |= {"status": "COMPLETED", "logs": logs, "metrics": {"inference_time": round(took, 3)}}
    if job.outcome.error:
        document["error"] = job.outcome.error
    if job.outcome.error_type:
        document["error_type"] = job.outcome.error_type
    return 200, document


def _logs(job: Job) -> list[dict[str, str]]:
    now = job.ended_at or time.time()
    line = {"timestamp": iso(now), "level": "INFO", "source": "USER"}
    return [{"message": f"Generating: {job.progress(now):.0%}" + "x" * job.action.logs_bytes} | line]


def expired(job: Job, settings: Settings, now: float) -> bool:
    """Whether fal has deleted the result."""
    if job.ended_at is None or job.outcome is None:
        return False
    large = len(json.dumps(job.outcome.output)) >= 10_000
    return now - job.ended_at > (settings.fal_large_retention_s if large else settings.fal_retention_s)


def webhook_document(job: Job) -> dict[str, Any]:
    """The body of the one webhook that fal sends for a job."""
    assert job.outcome is not None
    ids = {"request_id": job.id, "gateway_request_id": job.id}
    if job.outcome.status == "succeeded":
        return ids | {"status": "OK", "payload": job.outcome.output}
    reply = job.outcome.reply
    error = f"Invalid status code: {reply.status}" if reply else job.outcome.error
    return ids | {"status": "ERROR", "error": error, "payload": reply.body if reply else None}


def listed(job: Job, *, with_payloads: bool) -> dict[str, Any]:
    """One item of the platform's list of requests."""
    took = job.ended_at - job.started_at if job.ended_at and job.started_at else None
    item: dict[str, Any] = {
        "request_id": job.id,
        "endpoint_id": job.endpoint.name,
        "sent_at": iso(job.created_at),
        "started_at": iso(job.started_at) if job.started_at else None,
        "ended_at": iso(job.ended_at) if job.ended_at else None,
        "status_code": status_code(job),
        "duration": took,
    }
    if with_payloads:
        output = job.outcome.output if job.outcome else None
        error = job.outcome.reply.body if job.outcome and job.outcome.reply else None
        item |= {"json_input": job.input, "json_output": output if output is not None else error}
    return item


def status_code(job: Job) -> int | None:
    """The HTTP status of a job's result; None while there is none."""
    if job.outcome is None:
        return None
    return job.outcome.reply.status if job.outcome.reply else 200
