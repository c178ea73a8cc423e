"""What an event says to people: the text in a job's log. Pure."""

from __future__ import annotations

from contracts.attempts import (
    AttemptAmbiguous,
    AttemptCancelled,
    AttemptFailed,
    AttemptProgressed,
    AttemptSubmitted,
    AttemptSubmitting,
    AttemptSucceeded,
)
from contracts.failures import FAILURES
from contracts.jobs import JobAccepted, JobCancelled, JobFailed, JobRerouted, JobStarted, JobSucceeded
from contracts.message import Message
from contracts.requests import CancelRequested, JobRequested, ResolutionRequested


def in_words(message: Message) -> str:
    """One line about what happened; a provider's own words are kept as they are."""
    match message:
        case JobRequested():
            return f"asked for {message.model or message.input.modality}"
        case CancelRequested():
            return f"asked to cancel: {message.reason}" if message.reason else "asked to cancel"
        case ResolutionRequested():
            return f"an operator says: {message.provider} {_verdict(message.provider_ref)}"
        case AttemptFailed(late=True):
            return f"known only now: {message.message or FAILURES[message.kind].meaning}"
        case AttemptFailed():
            return message.message or FAILURES[message.kind].meaning
        case AttemptAmbiguous():
            return message.message
    return _of_attempt(message) or _of_job(message) or message.TYPE


def _verdict(provider_ref: str | None) -> str:
    return "never accepted it" if provider_ref is None else f"accepted it as {provider_ref}"


def _of_attempt(message: Message) -> str | None:
    match message:
        case AttemptSubmitting():
            return f"submitting to {message.provider}: {message.endpoint}"
        case AttemptSubmitted():
            return f"{message.provider} accepted it as {message.provider_ref}"
        case AttemptProgressed():
            return message.message or _STAGES[message.stage] + _position(message.queue_position)
        case AttemptSucceeded():
            late = ", too late for the job" if message.late else ""
            return f"stored {', '.join(artifact.name for artifact in message.artifacts)}{late}"
        case AttemptCancelled():
            return message.message or f"cancelled; {'may have cost' if message.may_have_cost else 'cost nothing'}"
    return None


def _of_job(message: Message) -> str | None:
    match message:
        case JobAccepted():
            skipped = "".join(f"; not {route.provider}: {route.reason}" for route in message.skipped)
            return f"may go to {', '.join(route.provider for route in message.plan) or 'nobody'}{skipped}"
        case JobStarted():
            return f"running at {message.provider}"
        case JobRerouted():
            return f"moved from {message.from_provider} to {message.to_provider}: {message.message}"
        case JobSucceeded():
            return f"made by {message.provider} with {message.model}"
        case JobFailed():
            return message.message
        case JobCancelled():
            return _EFFECTS[message.effect]
    return None


def _position(place: int | None) -> str:
    return "" if place is None else f", {place} ahead"


_STAGES = {
    "throttled": "throttled by the provider; sent again later",
    "unreachable": "the provider cannot be reached; sent again later",
    "queued": "in the provider's queue",
    "running": "running",
    "collecting": "finished; fetching the result",
    "stored": "result stored",
}
_EFFECTS = {
    "never_sent": "cancelled before it was sent to a provider",
    "cancelled_free": "cancelled; it cost nothing",
    "may_have_cost": "cancelled; it may have cost something",
}
