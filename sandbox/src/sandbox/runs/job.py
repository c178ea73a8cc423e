"""An accepted request, and the ways in which it can end."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from sandbox.http.responses import PRESETS, REPLICATE_ERRORS, Provider, Reply, fal_flat, fal_timeout
from sandbox.models.endpoints import Endpoint
from sandbox.runs.faults import Action

Status = Literal["queued", "running", "succeeded", "failed", "canceled", "aborted"]


@dataclass(frozen=True)
class Outcome:
    """How a job ends: `reply` is the answer to fal's result request, `error` the text of a status or a prediction."""

    status: Status
    output: Any = None
    reply: Reply | None = None
    error: str | None = None
    error_type: str | None = None
    billed_usd: float = 0.0


@dataclass(eq=False, kw_only=True)
class Job:
    """One accepted request. Times are epoch seconds, durations are seconds; a duration of None never ends."""

    endpoint: Endpoint
    id: str
    input: Any
    action: Action
    ending: Outcome
    queue_s: float | None
    run_s: float | None
    price_usd: float
    webhook: str | None = None
    events: frozenset[str] | None = None
    start_within_s: float | None = None
    end_within_s: float | None = None
    created_at: float = field(default_factory=time.time)
    started_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None
    status_looks: int = 0
    result_looks: int = 0
    file_looks: int = 0
    due: asyncio.Event | None = None
    """Set to end the current wait; None while there is none."""
    ticket: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def provider(self) -> Provider:
        """The provider of the job."""
        return self.endpoint.provider

    @property
    def status(self) -> Status:
        """The current status."""
        if self.outcome:
            return self.outcome.status
        return "running" if self.started_at else "queued"

    def progress(self, now: float) -> float:
        """The completed share of the run, from 0 to 1."""
        if self.outcome and self.outcome.status == "succeeded":
            return 1.0
        if self.started_at is None or not self.run_s:
            return 0.0
        return min((now - self.started_at) / self.run_s, 1.0)

    def is_still_unknown(self) -> bool:
        """Count a status request; whether it is one of the first, for which the job is not found yet."""
        self.status_looks += 1
        return self.status_looks <= self.action.unknown_first

    def is_still_empty(self) -> bool:
        """Count a result request; whether it is one of the first, for which the output is still empty."""
        if self.outcome is None or self.outcome.status != "succeeded":
            return False
        self.result_looks += 1
        return self.result_looks <= self.action.empty_first

    def tell(self) -> None:
        """Wake all tasks that wait for a change of this job."""
        self.moved.set()
        self.moved = asyncio.Event()


def refused_by_model(problem: Reply) -> Outcome:
    """The outcome of a job whose input the model itself refuses."""
    return Outcome("failed", reply=problem, error=f"Invalid status code: {problem.status}")


def planned(provider: Provider, action: Action, output: Any, price_usd: float) -> Outcome:
    """The outcome of a job with `action` if it is not stopped."""
    if action.end_as:
        return Outcome(action.end_as, reply=_cancelled(), error=None)
    if action.fail is None:
        return Outcome("succeeded", output, billed_usd=price_usd)
    billed = price_usd if not isinstance(action.fail, str) and action.fail.billed else 0.0
    reply, error, kind = _failure(provider, action)
    return Outcome("failed", reply=reply, error=error, error_type=kind, billed_usd=billed)


def stopped(job: Job, now: float) -> Outcome:
    """The outcome of a job cancelled now; Replicate charges for the elapsed part of the run, fal nothing."""
    if job.provider == "fal":
        return Outcome("canceled", reply=_cancelled(), error="Request was cancelled", error_type="client_cancelled")
    used = round(job.price_usd * job.progress(now), 6)
    return Outcome("canceled" if job.started_at else "aborted", billed_usd=used)


def not_started_in_time() -> Outcome:
    """The outcome of a fal job whose start deadline has passed; free."""
    return Outcome("failed", reply=fal_timeout(), error="Request timed out", error_type="request_timeout")


def _cancelled() -> Reply:
    return fal_flat(499, "Request was cancelled", "client_cancelled")


def _failure(provider: Provider, action: Action) -> tuple[Reply, str, str | None]:
    fail = action.fail
    if isinstance(fail, str):
        known = PRESETS[provider].get(fail)
        reply = known if isinstance(known, Reply) else Reply(500, {"detail": fail})
        if provider == "replicate":
            return reply, REPLICATE_ERRORS.get(fail, _text(reply)), None
        return reply, _text(reply), reply.headers.get("x-fal-error-type")
    assert fail is not None
    body = fail.body if fail.body is not None else {"detail": fail.error or "Internal Server Error"}
    headers = {"x-fal-error-type": fail.error_type} if fail.error_type else {}
    reply = Reply(fail.status, body, headers)
    return reply, fail.error or _text(reply), fail.error_type


def _text(reply: Reply) -> str:
    detail = reply.body.get("detail") if isinstance(reply.body, dict) else None
    return detail if isinstance(detail, str) else f"Invalid status code: {reply.status}"
