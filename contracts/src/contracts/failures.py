"""The kinds of failure of attempts and jobs, and the properties of each kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal


class FailureKind(StrEnum):
    """The kinds of failure, the same for all providers."""

    INVALID_INPUT = "invalid_input"
    CONTENT_POLICY = "content_policy"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    MODEL_NOT_FOUND = "model_not_found"
    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "rate_limited"
    UNREACHABLE = "unreachable"
    PROVIDER_ERROR = "provider_error"
    MODEL_ERROR = "model_error"
    START_TIMEOUT = "start_timeout"
    RUN_TIMEOUT = "run_timeout"
    CANCELLED_BY_PROVIDER = "cancelled_by_provider"
    OUTPUT_LOST = "output_lost"
    OUTPUT_UNUSABLE = "output_unusable"
    OUTPUT_UNREADABLE = "output_unreadable"
    OUTPUT_REFUSED = "output_refused"
    STORE_FAILED = "store_failed"
    CALLBACK_REFUSED = "callback_refused"
    NEVER_ACCEPTED = "never_accepted"
    AMBIGUOUS_SUBMISSION = "ambiguous_submission"
    EXPIRED = "expired"
    NO_ROUTE = "no_route"
    UNKNOWN = "unknown"
    UNRECOGNISED = "unrecognised"

    @classmethod
    def _missing_(cls, value: object) -> FailureKind | None:
        # An event with a kind that only a newer release has must still be readable.
        return cls.UNRECOGNISED if isinstance(value, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureTraits:
    """How a kind of failure affects the job, the provider's circuit breaker, the cost and the caller."""

    meaning: str = field(kw_only=False)
    """A text for users: what happened, and whether it was billed."""
    moves_on: bool = False
    """The job may go to the next provider: this attempt can no longer produce a result or a cost."""
    undelivered: bool = False
    """Nothing reached the provider, and the cause may pass: the job may order from it again, until its deadline."""
    callers_fault: bool = False
    """The request itself is at fault; another provider would refuse it too."""
    breaker: Literal["provider", "endpoint"] | None = None
    """The scope of the circuit breaker that counts it. None: it is no evidence about the provider's health."""
    opens_at_once: bool = False
    """One failure opens the breaker: the next request would fail in the same way."""
    probed_first: bool = False
    """While it keeps a breaker open, the free credential probe runs before a paid run is used as the probe."""
    probe_clears: bool = False
    """A successful credential probe shows that the cause is gone. The probe does not check the account's balance."""
    probe_confirms: bool = False
    """A credential probe that fails with this kind keeps the breaker open. Not set for FORBIDDEN: a key may have the
    permission to run models and not the one that the probe needs."""
    output_lost: bool = False
    """The output of a paid run is lost; the job's `lost_output_policy` decides whether another provider is paid."""
    collectable: bool = False
    """The run was paid for, and the provider may still have its output: an operator can have it fetched again."""
    run_may_exist: bool = False
    """The provider did not answer the submit: a run may become visible after the attempt has ended."""


FAILURES: Final[dict[FailureKind, FailureTraits]] = {
    FailureKind.INVALID_INPUT: FailureTraits(
        "The provider refused the input as invalid; the request has to change.",
        callers_fault=True,
    ),
    FailureKind.CONTENT_POLICY: FailureTraits(
        "The provider's content policy refused the prompt or the result; the request has to change.",
        callers_fault=True,
    ),
    FailureKind.UNAUTHORIZED: FailureTraits(
        "The provider does not accept the key; nothing was billed.",
        moves_on=True,
        breaker="provider",
        opens_at_once=True,
        probed_first=True,
        probe_clears=True,
        probe_confirms=True,
    ),
    FailureKind.FORBIDDEN: FailureTraits(
        "The key may not use this model; nothing was billed.",
        moves_on=True,
        breaker="endpoint",
        opens_at_once=True,
        probed_first=True,
        probe_clears=True,
    ),
    FailureKind.INSUFFICIENT_BALANCE: FailureTraits(
        "The provider's account has no credit left; nothing was billed.",
        moves_on=True,
        breaker="provider",
        opens_at_once=True,
        probed_first=True,
        probe_confirms=True,
    ),
    FailureKind.MODEL_NOT_FOUND: FailureTraits(
        "The provider does not have the endpoint; the catalogue's route has to be corrected. Nothing was billed.",
        moves_on=True,
        breaker="endpoint",
        opens_at_once=True,
    ),
    FailureKind.UNAVAILABLE: FailureTraits(
        "The provider is unavailable at the moment, so nothing was sent to it.",
        moves_on=True,
        undelivered=True,
    ),
    FailureKind.RATE_LIMITED: FailureTraits(
        "The provider kept throttling until the attempt's time was over; nothing was billed.",
        moves_on=True,
    ),
    FailureKind.UNREACHABLE: FailureTraits(
        "The provider could not be reached; the request was never delivered.",
        moves_on=True,
        undelivered=True,
        breaker="provider",
        probed_first=True,
        probe_clears=True,
    ),
    FailureKind.PROVIDER_ERROR: FailureTraits(
        "The provider's infrastructure failed.",
        moves_on=True,
        breaker="endpoint",
    ),
    FailureKind.MODEL_ERROR: FailureTraits(
        "The model failed while it ran; the provider may bill the time it took.",
        moves_on=True,
    ),
    FailureKind.START_TIMEOUT: FailureTraits(
        "The provider did not start the run in time; nothing was billed.",
        moves_on=True,
        breaker="endpoint",
    ),
    FailureKind.RUN_TIMEOUT: FailureTraits(
        "The run took longer than its route allows and was stopped; the time may be billed.",
        moves_on=True,
        breaker="endpoint",
    ),
    FailureKind.CANCELLED_BY_PROVIDER: FailureTraits(
        "The provider stopped the run on its own.",
        moves_on=True,
        breaker="endpoint",
    ),
    FailureKind.OUTPUT_LOST: FailureTraits(
        "The run succeeded, but its output is gone at the provider; the run was billed.",
        moves_on=True,
        breaker="endpoint",
        output_lost=True,
        collectable=True,
    ),
    FailureKind.OUTPUT_UNUSABLE: FailureTraits(
        "The run succeeded, but what it returned is not the media asked for; the run was billed.",
        moves_on=True,
        output_lost=True,
        collectable=True,
    ),
    FailureKind.OUTPUT_UNREADABLE: FailureTraits(
        "The run succeeded, but Segue finds no output in its result, which is kept with the attempt; the run was "
        "billed. No other provider is paid until an operator has looked at it.",
        collectable=True,
    ),
    FailureKind.OUTPUT_REFUSED: FailureTraits(
        "The run succeeded, but Segue's own settings refuse to fetch or keep its output, or its network never reached "
        "the output's host; the run was billed. Once that is corrected, `segue attempts collect` fetches it.",
        collectable=True,
    ),
    FailureKind.STORE_FAILED: FailureTraits(
        "The run succeeded, but Segue could not put its output into its own artifact store; the run was billed.",
        collectable=True,
    ),
    FailureKind.CALLBACK_REFUSED: FailureTraits(
        "The provider refused the URL for callbacks, which is no fault of the request; SEGUE_PUBLIC_URL has to be "
        "checked.",
        moves_on=True,
    ),
    FailureKind.NEVER_ACCEPTED: FailureTraits(
        "The answer to the submit was lost, and the provider did not list the run within the grace period; it was not "
        "accepted.",
        moves_on=True,
        run_may_exist=True,
    ),
    FailureKind.AMBIGUOUS_SUBMISSION: FailureTraits(
        "It could not be found out whether the provider accepted the run; it is not submitted again, so that "
        "nothing is paid twice. Look for it in the provider's own list of runs.",
        run_may_exist=True,
    ),
    FailureKind.EXPIRED: FailureTraits(
        "The deadline passed before the job ended; the costs are recorded with its attempts.",
    ),
    FailureKind.NO_ROUTE: FailureTraits(
        "No provider can serve the request, or none is left to try.",
    ),
    FailureKind.UNRECOGNISED: FailureTraits(
        "A newer release reported a kind that this one does not have; it is not known whether another provider may be "
        "tried.",
    ),
    # No breaker counts it, since the cause may be this one request.
    FailureKind.UNKNOWN: FailureTraits(
        "Segue does not recognise the provider's answer; the raw answer is kept with the attempt.",
        moves_on=True,
    ),
}

LOST_OUTPUT: Final = frozenset(kind for kind, traits in FAILURES.items() if traits.output_lost)
COLLECTABLE: Final = frozenset(kind for kind, traits in FAILURES.items() if traits.collectable)
