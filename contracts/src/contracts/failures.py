"""Why an attempt or a job failed: the closed list of kinds, and the three answers that everything else reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class FailureKind(StrEnum):
    """What went wrong, in words that do not depend on the provider."""

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
        # A kind that a newer service knows is no reason to lose its event.
        return cls.UNRECOGNISED if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class FailureTraits:
    """What a kind means for the job, for the provider's breaker, and for the caller."""

    meaning: str
    """One sentence for people: what happened and what it means for the money."""
    moves_on: bool
    """The job may be tried at the next provider: this attempt can neither deliver nor cost any more."""
    trips_breaker: bool
    """It says something about the provider's health, rather than about this one job."""
    callers_fault: bool
    """The request itself is at fault; another provider would be asked in vain."""


FAILURES: Final[dict[FailureKind, FailureTraits]] = {
    FailureKind.INVALID_INPUT: FailureTraits(
        "The provider refused the input as invalid; the request has to change.", False, False, True
    ),
    FailureKind.CONTENT_POLICY: FailureTraits(
        "The provider's content policy refused the prompt or the result; the request has to change.", False, False, True
    ),
    FailureKind.UNAUTHORIZED: FailureTraits(
        "The provider does not accept the key; nothing was billed.", True, True, False
    ),
    FailureKind.FORBIDDEN: FailureTraits("The key may not use this model; nothing was billed.", True, True, False),
    FailureKind.INSUFFICIENT_BALANCE: FailureTraits(
        "The provider's account has no credit left; nothing was billed.", True, True, False
    ),
    FailureKind.MODEL_NOT_FOUND: FailureTraits(
        "The provider does not know the endpoint; the catalogue's route needs mending. Nothing was billed.",
        True,
        True,
        False,
    ),
    FailureKind.UNAVAILABLE: FailureTraits(
        "The provider is known to be unwell at the moment, so nothing was sent to it.", True, False, False
    ),
    FailureKind.RATE_LIMITED: FailureTraits(
        "The provider kept throttling until the attempt's time was over; nothing was billed.", True, False, False
    ),
    FailureKind.UNREACHABLE: FailureTraits(
        "The provider could not be reached; the request was never delivered.", True, True, False
    ),
    FailureKind.PROVIDER_ERROR: FailureTraits("The provider's infrastructure failed.", True, True, False),
    FailureKind.MODEL_ERROR: FailureTraits(
        "The model failed while it ran; the provider may bill the time it took.", True, False, False
    ),
    FailureKind.START_TIMEOUT: FailureTraits(
        "The provider did not start the run in time; nothing was billed.", True, True, False
    ),
    FailureKind.RUN_TIMEOUT: FailureTraits(
        "The run took longer than its route allows and was stopped; the time may be billed.", True, True, False
    ),
    FailureKind.CANCELLED_BY_PROVIDER: FailureTraits("The provider stopped the run on its own.", True, True, False),
    FailureKind.OUTPUT_LOST: FailureTraits(
        "The run succeeded, but its output is gone at the provider; the run was billed.", True, True, False
    ),
    FailureKind.OUTPUT_UNUSABLE: FailureTraits(
        "The run succeeded, but what it returned is not the media asked for; the run was billed.", True, False, False
    ),
    FailureKind.OUTPUT_UNREADABLE: FailureTraits(
        "The run succeeded, but Segue finds no output in its result, which is kept with the attempt; the run was "
        "billed. No other provider is paid until a person has looked.",
        False,
        False,
        False,
    ),
    FailureKind.OUTPUT_REFUSED: FailureTraits(
        "The run succeeded, but Segue's own settings refuse to fetch or keep its output, or its network never reached "
        "the output's host; the run was billed. Once that is mended, `segue attempts collect` fetches it.",
        False,
        False,
        False,
    ),
    FailureKind.STORE_FAILED: FailureTraits(
        "The run succeeded, but Segue could not put its output into its own artifact store; the run was billed.",
        False,
        False,
        False,
    ),
    FailureKind.CALLBACK_REFUSED: FailureTraits(
        "The provider found fault with the address at which Segue wants to be called back, which is no fault of the "
        "request; SEGUE_PUBLIC_URL has to be checked.",
        True,
        False,
        False,
    ),
    FailureKind.NEVER_ACCEPTED: FailureTraits(
        "The submit's answer was lost, and the provider never showed the run within the grace; it was not accepted.",
        True,
        False,
        False,
    ),
    FailureKind.AMBIGUOUS_SUBMISSION: FailureTraits(
        "Whether the provider accepted the run could not be found out; it is not submitted again, so that nobody "
        "pays twice. Look for it in the provider's own list of runs.",
        False,
        False,
        False,
    ),
    FailureKind.EXPIRED: FailureTraits(
        "The deadline passed before the job was done; what its attempts cost stands with them.", False, False, False
    ),
    FailureKind.NO_ROUTE: FailureTraits(
        "No provider can do what was asked, or none is left to try.", False, False, False
    ),
    FailureKind.UNRECOGNISED: FailureTraits(
        "A newer service named a kind that this one does not know; whether another provider may be tried is not known.",
        False,
        False,
        False,
    ),
    # Whoever asks in a way that the provider answers so says nothing about how it does for others.
    FailureKind.UNKNOWN: FailureTraits(
        "The provider answered something Segue does not know; the raw answer is kept with the attempt.",
        True,
        False,
        False,
    ),
}

LOST_OUTPUT: Final = frozenset({FailureKind.OUTPUT_LOST, FailureKind.OUTPUT_UNUSABLE})
"""The output of a paid run is lost: whether another provider is paid for it is the job's `lost_output_policy`."""

COLLECTABLE: Final = LOST_OUTPUT | {
    FailureKind.OUTPUT_UNREADABLE,
    FailureKind.OUTPUT_REFUSED,
    FailureKind.STORE_FAILED,
}
"""The run was paid for, and its output may still be had from the provider: an operator can ask for it again."""
