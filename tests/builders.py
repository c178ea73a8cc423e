"""Sample messages and what goes with them; a test names only what it is about."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypeVar

from adapter_kit.attempt.model import Attempt
from contracts.generation import Provider
from contracts.ids import JobId, attempt_id_for, track_id_for
from contracts.messages.attempts import AttemptEvent
from contracts.messages.requests import JobRequested
from contracts.modalities.music import MusicInput
from orchestrator.decisions.job import Candidate

E = TypeVar("E", bound=AttemptEvent)


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


def attempt_fields(job_id: JobId, n: int, version: int, at: datetime, **changes: Any) -> dict[str, Any]:
    """What every event of the n-th attempt says; the first is at fal, the others at Replicate."""
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


def queued_attempt(job_id: JobId, at: datetime, **changes: Any) -> Attempt:
    """The first attempt of a job as it was ordered: due at once, five minutes to end."""
    known: dict[str, Any] = {
        "attempt_id": attempt_id_for(job_id, 1),
        "job_id": job_id,
        "track_id": track_id_for(job_id),
        "n": 1,
        "provider": "fal",
        "model": "music/test",
        "endpoint": "test/model",
        "modality": "music",
        "arguments": {"prompt": "pad"},
        "price_usd": 0.2,
        "deadline_at": at + timedelta(minutes=5),
        "submit_timeout_s": 30,
        "start_within_s": 60,
        "run_within_s": 120,
        "grace_s": 240,
        "created_at": at,
        "next_action_at": at,
    }
    return Attempt(**known | changes)


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
