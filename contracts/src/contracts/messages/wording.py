"""The texts of messages in a job's log. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from contracts.failures import FAILURES, LOST_OUTPUT, FailureKind
from contracts.messages.attempts import (
    AttemptAmbiguous,
    AttemptCancelled,
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
    JobFailed,
    JobRerouted,
    JobStarted,
    JobSucceeded,
    PlannedRoute,
    SkippedRoute,
)
from contracts.messages.requests import CancelRequested, CollectionRequested, JobRequested, ResolutionRequested


def describe(message: Message) -> str:
    """The text of a message in a job's log; texts of a provider are kept unchanged."""
    text = _TEXTS.get(type(message))
    return message.TYPE if text is None else text(message)


def _requested(message: JobRequested) -> str:
    return f"asked for {message.model or message.input.modality}"


def _cancel_requested(message: CancelRequested) -> str:
    return f"asked to cancel: {message.reason}" if message.reason else "asked to cancel"


def _resolution_requested(message: ResolutionRequested) -> str:
    ref = message.provider_ref
    return f"an operator says: {message.provider} {'never accepted it' if ref is None else f'accepted it as {ref}'}"


def _collection_requested(message: CollectionRequested) -> str:
    return f"an operator asks for the output at {message.provider} to be fetched again"


def _attempt_failed(message: AttemptFailed) -> str:
    text = message.message or FAILURES[message.kind].meaning
    cost = _cost(message)
    return _then(f"known only now: {text}", cost, _GONE_ON) if message.late else _then(text, cost)


def _ambiguous(message: AttemptAmbiguous) -> str:
    until = f"{message.resolve_by:%H:%M:%S} UTC"
    return f"{message.message}; it may have been accepted: it is looked for, and not sent again ({until})"


def _submitting(message: AttemptSubmitting) -> str:
    return f"submitting to {message.provider}: {message.endpoint}"


def _submitted(message: AttemptSubmitted) -> str:
    return f"{message.provider} accepted it as {message.provider_ref}"


def _progressed(message: AttemptProgressed) -> str:
    return message.message or _STAGES[message.stage] + _position(message.queue_position)


def _attempt_succeeded(message: AttemptSucceeded) -> str:
    names = ", ".join(artifact.name for artifact in message.artifacts)
    kept = f"late result: {names} kept on its attempt; {_GONE_ON}" if message.late else f"stored {names}"
    return f"{kept}; {message.missing}" if message.missing else kept


def _attempt_cancelled(message: AttemptCancelled) -> str:
    late = f"; {_GONE_ON}" if message.late else ""
    cost = "may have cost" if message.may_have_cost else "cost nothing"
    return (message.message or f"cancelled; {cost}") + late


def _accepted(message: JobAccepted) -> str:
    because = f"; {message.because}" if message.because else ""
    skipped = _skipped(message.skipped, message.plan)
    return f"may go to {', '.join(route.provider for route in message.plan) or 'no provider'}{because}{skipped}"


def _started(message: JobStarted) -> str:
    return f"{message.provider} has taken it"


def _rerouted(message: JobRerouted) -> str:
    moved = f"moved from {message.from_provider} to {message.to_provider}: {message.message}"
    return _then(moved, _paid_again(message)) + _skipped(message.skipped)


def _succeeded(message: JobSucceeded) -> str:
    return _then(f"made by {message.provider} with {message.model}", _price(message))


def _failed(message: JobFailed) -> str:
    return _then(message.message, _bill(message))


def _cancelled(message: JobCancelled) -> str:
    return _EFFECTS[message.effect]


# The sink and the gateway's tail describe every event: one look-up takes half as long as up to 17 checks of a class.
_TEXTS: Final[Mapping[type[Message], Callable[[Any], str]]] = {
    JobRequested: _requested,
    CancelRequested: _cancel_requested,
    ResolutionRequested: _resolution_requested,
    CollectionRequested: _collection_requested,
    AttemptFailed: _attempt_failed,
    AttemptAmbiguous: _ambiguous,
    AttemptSubmitting: _submitting,
    AttemptSubmitted: _submitted,
    AttemptProgressed: _progressed,
    AttemptSucceeded: _attempt_succeeded,
    AttemptCancelled: _attempt_cancelled,
    JobAccepted: _accepted,
    JobStarted: _started,
    JobRerouted: _rerouted,
    JobSucceeded: _succeeded,
    JobFailed: _failed,
    JobCancelled: _cancelled,
}


def _cost(failed: AttemptFailed) -> str:
    """What is known about the cost of a failed attempt. A known cost is the catalogue's price."""
    usd = failed.known_cost_usd
    if failed.kind is FailureKind.UNAVAILABLE:
        return ""  # Nothing was sent.
    if usd is None:
        unclear = failed.kind is FailureKind.AMBIGUOUS_SUBMISSION
        return "it is not known yet whether it cost anything" if unclear else "it may have cost something"
    return f"it cost {in_dollars(usd)} by the catalogue's price" if usd else "it cost nothing"


def _paid_again(message: JobRerouted) -> str:
    """The cost of the lost output and of the run that replaces it; empty if no output was lost."""
    if message.kind not in LOST_OUTPUT:
        return ""
    paid = "an unknown amount" if message.cost_usd is None else in_dollars(message.cost_usd)
    price = "an unknown price" if message.price_usd is None else in_dollars(message.price_usd)
    return (
        f"the lost output cost {paid}, and {message.to_provider} makes it again for {price} "
        "(lost_output_policy: retry_elsewhere)"
    )


def _price(made: JobSucceeded) -> str:
    if made.cost_usd is None:
        return "what it cost in all is not known"
    return f"in all {in_dollars(made.cost_usd)}" if made.cost_usd else ""


def _bill(failed: JobFailed) -> str:
    # The total is None if nothing was sent, and if the end of an attempt is not known.
    costs = [attempt.cost_usd for attempt in failed.attempts]
    known = failed.cost_usd or sum(cost for cost in costs if cost is not None)
    if None in costs:
        return f"in all {in_dollars(known)} at least" if known else "it may have cost something"
    return f"in all {in_dollars(known)}" if known else "nothing was paid"


def _then(text: str, *more: str) -> str:
    """The text, followed by further parts: as a sentence of their own if the text ends with a full stop."""
    rest = "; ".join(part for part in more if part)
    if rest and text.endswith((".", "!", "?")):
        return f"{text} {rest[0].upper()}{rest[1:]}."
    return f"{text}; {rest}" if rest else text


def in_dollars(usd: float) -> str:
    """The amount with a dollar sign and two decimals, or up to six if it has fractions of a cent."""
    return f"${usd:.2f}" if round(usd, 2) == round(usd, 6) else f"${usd:.6f}".rstrip("0")


def _skipped(routes: Sequence[SkippedRoute], plan: Sequence[PlannedRoute] = ()) -> str:
    several_models = len({route.model for route in plan} | {route.model for route in routes}) > 1
    return "".join(
        f"; skipped {route.provider}{f' ({route.model})' if several_models else ''}: {route.reason}" for route in routes
    )


def _position(place: int | None) -> str:
    return "" if place is None else f", {place} ahead"


_GONE_ON = "the job had already gone on without it"
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
