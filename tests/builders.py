"""Sample messages and attempts; a test names only what it is about."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic_core import from_json, to_json, to_jsonable_python

from adapter_kit.attempt.model import Attempt
from adapter_kit.attempt.states import Closed, Collecting, LostSubmit, Run, Running
from adapter_kit.engine.rows import dump, load
from adapter_kit.port.outcomes import ProviderRef
from contracts.generation import Provider
from contracts.ids import JobId, attempt_id_for, track_id_for
from contracts.messages.attempts import Artifact, AttemptEvent
from contracts.messages.jobs import AttemptOutcome
from contracts.messages.requests import JobRequested
from contracts.modalities.music import MusicInput
from orchestrator.decisions.job import Candidate

E = TypeVar("E", bound=AttemptEvent)
_WITH_RUN = ("running", "cancelling", "collecting")
_OVER = ("succeeded", "failed", "cancelled")


def job_requested(job_id: JobId, at: datetime, **changes: Any) -> JobRequested:
    """A request for a piece of music: 15 s to be accepted, half an hour to end."""
    return JobRequested.model_validate(
        {
            "job_id": job_id,
            "track_id": track_id_for(job_id),
            "tenant": "default",
            "occurred_at": at,
            "fingerprint": "a" * 64,
            "input": MusicInput(prompt="Warm ambient pad", duration_s=20),
            "accept_by": at + timedelta(seconds=15),
            "deadline_at": at + timedelta(minutes=30),
        }
        | changes
    )


def job_fields(job_id: JobId, version: int, status: str, at: datetime, **changes: Any) -> dict[str, Any]:
    """The fields that every event of a job has."""
    return {
        "job_id": job_id,
        "track_id": track_id_for(job_id),
        "tenant": "default",
        "version": version,
        "status": status,
        "occurred_at": at,
    } | changes


def attempt_fields(job_id: JobId, n: int, version: int, at: datetime, **changes: Any) -> dict[str, Any]:
    """The fields that every event of the n-th attempt has; the first is at fal, the others at Replicate."""
    return {
        "job_id": job_id,
        "track_id": track_id_for(job_id),
        "attempt_id": attempt_id_for(job_id, n),
        "n": n,
        "provider": "fal" if n == 1 else "replicate",
        "model": "music/minimax-2",
        "endpoint": "fal-ai/minimax-music/v2" if n == 1 else "minimax/music-1.5",
        "version": version,
        "occurred_at": at,
    } | changes


def attempt_event(event: type[E], job_id: JobId, n: int, version: int, at: datetime, **said: Any) -> E:
    """An event of the n-th attempt."""
    return event.model_validate(attempt_fields(job_id, n, version, at, **said))


def attempt_outcome(job_id: JobId, n: int, **changes: Any) -> AttemptOutcome:
    """The n-th attempt in the event that ends its job: failed, at fal."""
    usual = {"attempt_id": attempt_id_for(job_id, n), "n": n, "provider": "fal", "outcome": "failed"}
    return AttemptOutcome.model_validate(usual | changes)


def artifact(name: str = "track.mp3", **changes: Any) -> Artifact:
    """A stored file of a result."""
    usual = {"name": name, "content_type": "audio/mpeg", "size_bytes": 4, "sha256": "d" * 64}
    return Artifact.model_validate(usual | changes)


def candidate(provider: Provider, endpoint: str = "test/model", price_usd: float | None = 0.2) -> Candidate:
    """A route that a job may take, with what is sent there."""
    return Candidate(
        provider=provider,
        model="music/test",
        endpoint=endpoint,
        substitute=False,
        modality="music",
        arguments={"prompt": "pad"},
        start_within_s=60,
        run_within_s=120,
        price_usd=price_usd,
    )


def queued_attempt(job_id: JobId, created_at: datetime, **fields: Any) -> Attempt:
    """A job's first attempt as it was ordered, due at once, with other values for some of its fields."""
    usual: dict[str, Any] = {
        "attempt_id": attempt_id_for(job_id, 1),
        "job_id": job_id,
        "track_id": track_id_for(job_id),
        "n": 1,
        "provider": "fal",
        "model": "music/test",
        "endpoint": "test/model",
        "modality": "music",
        "arguments": {},
        "price_usd": 0.2,
        "deadline_at": created_at + timedelta(minutes=30),
        "submit_timeout_s": 30,
        "start_within_s": 60,
        "run_within_s": 120,
        "grace_s": 240,
        "created_at": created_at,
        "next_action_at": created_at,
    }
    return Attempt(**usual | fields)


def changed(attempt: Attempt, **fields: Any) -> Attempt:
    """The attempt with other values for fields of its row, `state` by name among them.

    A state gets what it cannot be without, where neither the attempt nor `fields` has it: a run, an end, a loss.
    """
    began = attempt.created_at
    state = fields.get("state", attempt.state.name)
    needed: dict[str, Any] = {}
    if state != "queued":
        needed |= {"submit_started_at": began}
    if state in _WITH_RUN:
        needed |= {"ref": ProviderRef("run-1", {})}
    if state == "cancelling":
        needed |= {"cancel_reason": "client"}
    if state in _OVER:
        needed |= {"ended_at": began}
    if state == "ambiguous":
        needed |= {"resolve_by": began + timedelta(seconds=attempt.grace_s)}
    if fields.get("follow_up"):
        needed |= {"follow_up_until": began + timedelta(hours=1), "unsettled": True}
    known = {name: value for name, value in from_json(dump(attempt)).items() if value is not None}
    return load(to_json(to_jsonable_python(needed) | known | to_jsonable_python(fields)).decode(), began)


def follow_up_of(attempt: Attempt) -> str | None:
    """The name of what is still being done about an attempt that has ended."""
    assert isinstance(attempt.state, Closed)
    return attempt.state.follow_up.name if attempt.state.follow_up else None


def lost_of(attempt: Attempt) -> LostSubmit:
    """What is known of the attempt's lost submit."""
    lost = getattr(attempt.state, "lost", None)
    assert isinstance(lost, LostSubmit)
    return lost


def run_of(attempt: Attempt) -> Run:
    """The attempt's run."""
    assert attempt.state.run is not None
    return attempt.state.run


def fetch_by(attempt: Attempt) -> datetime | None:
    """Until when the output of its run, or the run itself, is asked for."""
    assert isinstance(attempt.state, Running | Collecting)
    return attempt.state.fetch_by
