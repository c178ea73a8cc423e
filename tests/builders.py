"""Sample messages and attempts; a test names only the fields that it depends on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from aiokafka import ConsumerRecord
from pydantic_core import from_json, to_json, to_jsonable_python

from adapter_kit.attempt.inputs import CancelAnswered, Checked, CollectFailed, Input, Searched
from adapter_kit.attempt.machine import step
from adapter_kit.attempt.model import Attempt, Step
from adapter_kit.attempt.states import Closed, Collecting, LostSubmit, Run, Running
from adapter_kit.engine.ledger import Held
from adapter_kit.engine.rows import dump, load
from adapter_kit.port.outcomes import ProviderRef
from chassis.delivery.handling import Delivered
from chassis.kafka.outbox import Transaction
from contracts.generation import Provider
from contracts.ids import JobId, attempt_id_for, track_id_for
from contracts.messages.attempts import Artifact, AttemptEvent
from contracts.messages.base import Message
from contracts.messages.jobs import AttemptOutcome
from contracts.messages.requests import JobRequested
from contracts.modalities.music import MusicInput
from orchestrator.decisions.job import Candidate
from orchestrator.decisions.remaining_candidates import NOBODY, Silent

E = TypeVar("E", bound=AttemptEvent)
_WITH_RUN = ("running", "cancelling", "collecting")
_OVER = ("succeeded", "failed", "cancelled")


def job_requested(job_id: JobId, at: datetime, **changes: Any) -> JobRequested:
    """A request for music that expires after 15 s, with a deadline after 30 min."""
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


def delivered(message: Message, arrived_at: datetime, traceparent: str | None = None) -> Delivered:
    """The message as a handler gets it, in a record without headers."""
    at = int(arrived_at.timestamp() * 1000)
    record = ConsumerRecord("segue.sample", 0, 0, at, 0, b"key", b"{}", None, 3, 2, ())
    return Delivered(message, "event", traceparent, record)


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
    """The fields that every event of the n-th attempt has; the first attempt is at fal, the others at Replicate."""
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


def attempt_event(event: type[E], job_id: JobId, n: int, version: int, at: datetime, **fields: Any) -> E:
    """An event of the n-th attempt."""
    return event.model_validate(attempt_fields(job_id, n, version, at, **fields))


def attempt_outcome(job_id: JobId, n: int, **changes: Any) -> AttemptOutcome:
    """The n-th attempt in the event that ends its job: failed, at fal."""
    usual = {"attempt_id": attempt_id_for(job_id, n), "n": n, "provider": "fal", "outcome": "failed"}
    return AttemptOutcome.model_validate(usual | changes)


def artifact(name: str = "track.mp3", **changes: Any) -> Artifact:
    """A stored file of a result."""
    usual = {"name": name, "content_type": "audio/mpeg", "size_bytes": 4, "sha256": "d" * 64}
    return Artifact.model_validate(usual | changes)


def candidate(provider: Provider, endpoint: str = "test/model", price_usd: float | None = 0.2) -> Candidate:
    """A route that a job may take, with the request in the provider's terms."""
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
    """A job's first attempt in state queued, due at once; `fields` replaces values."""
    defaults: dict[str, Any] = {
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
    return Attempt(**defaults | fields)


def changed(attempt: Attempt, **fields: Any) -> Attempt:
    """A copy of the attempt with other values for columns of its row; `state` is the name of a state.

    Fields that the state requires, and that neither the attempt nor `fields` has, get default values.
    """
    began = attempt.created_at
    state = fields.get("state", attempt.state.name)
    required: dict[str, Any] = {}
    if state != "queued":
        required |= {"submit_started_at": began}
    if state in _WITH_RUN:
        required |= {"ref": ProviderRef("run-1", {})}
    if state == "cancelling":
        required |= {"cancel_reason": "client"}
    if state in _OVER:
        required |= {"ended_at": began}
    if state == "ambiguous":
        required |= {"resolve_by": began + timedelta(seconds=attempt.grace_s)}
    if fields.get("follow_up"):
        required |= {"follow_up_until": began + timedelta(hours=1), "unsettled": True}
    present = {name: value for name, value in from_json(dump(attempt)).items() if value is not None}
    return load(to_json(to_jsonable_python(required) | present | to_jsonable_python(fields)).decode(), began)


def step_at_once(attempt: Attempt, input_: Input, now: datetime) -> Step:
    """The step of the input; the outcome of an action is recorded at the moment at which the action was begun."""
    if isinstance(input_, Checked | CancelAnswered | Searched | CollectFailed):
        return step(attempt, replace(input_, asked_at=now), now)
    return step(attempt, input_, now)


def follow_up_of(attempt: Attempt) -> str | None:
    """The name of the follow-up of a closed attempt; None without one."""
    assert isinstance(attempt.state, Closed)
    return attempt.state.follow_up.name if attempt.state.follow_up else None


def lost_of(attempt: Attempt) -> LostSubmit:
    """The attempt's lost submit. The attempt has to have one."""
    lost = getattr(attempt.state, "lost", None)
    assert isinstance(lost, LostSubmit)
    return lost


def run_of(attempt: Attempt) -> Run:
    """The attempt's run. The attempt has to have one."""
    assert attempt.state.run is not None
    return attempt.state.run


def fetch_by(attempt: Attempt) -> datetime | None:
    """The time until which the run, or its output, is fetched; the attempt is running or collecting."""
    assert isinstance(attempt.state, Running | Collecting)
    return attempt.state.fetch_by


async def nobody_silent() -> Silent:
    """For a handler of jobs, or their timers: every adapter is heard of."""
    return NOBODY


async def claim_nothing(_transaction: Transaction, _held: Held) -> None:
    """For a handler of commands without a claim loop: its attempts stay as they were written."""
