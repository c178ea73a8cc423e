"""Replicate's JSON document of a job."""

import time
from typing import Any

from sandbox.runs.job import Job
from sandbox.settings import Settings
from sandbox.times import iso

_STATUS = {"queued": "starting", "running": "processing"}


def prediction(job: Job, base: str, settings: Settings, *, with_webhook: bool = True) -> dict[str, Any]:
    """The prediction object; without input, output and logs once the retention time has passed."""
    now = time.time()
    removed = job.action.result_404 and job.outcome is not None
    removed |= job.ended_at is not None and now - job.ended_at > settings.replicate_retention_s
    outcome = job.outcome
    document: dict[str, Any] = {
        "id": job.id,
        "model": job.endpoint.name,
        "version": job.endpoint.version or "hidden",
        "input": {} if removed else job.input,
        "output": None if removed or outcome is None else outcome.output,
        "logs": "" if removed else _logs(job, now),
        "error": outcome.error if outcome else None,
        "status": job.action.unknown_status or _STATUS.get(job.status, job.status),
        "source": "api",
        "data_removed": removed,
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at) if job.started_at else None,
        "completed_at": iso(job.ended_at) if job.ended_at else None,
        "metrics": _metrics(job),
        "urls": _urls(job, base),
    }
    if job.end_within_s is not None:
        document["deadline"] = iso(job.created_at + job.end_within_s)
    if with_webhook and job.webhook:
        document["webhook"] = job.webhook
        if job.events is not None:
            document["webhook_events_filter"] = sorted(job.events)
    return document


def _urls(job: Job, base: str) -> dict[str, str]:
    url = f"{base}/v1/predictions/{job.id}"
    return {"get": url, "cancel": f"{url}/cancel", "web": f"https://replicate.com/p/{job.id}"}


def _metrics(job: Job) -> dict[str, float]:
    if job.ended_at is None:
        return {}
    total = {"total_time": round(job.ended_at - job.created_at, 6)}
    return total | ({"predict_time": round(job.ended_at - job.started_at, 6)} if job.started_at else {})


def _logs(job: Job, now: float) -> str:
    if job.started_at is None:
        return ""
    done = round(job.progress(job.ended_at or now) * 100)
    return f"{done}%|{'█' * (done // 10):<10}| {done}/100\n" + "x" * job.action.logs_bytes
