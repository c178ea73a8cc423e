"""What can come of asking a provider something: closed sets of values that the attempt machine reads.

A provider's translation turns every answer, and every way of getting none, into one of these, and raises nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.failures import FailureKind


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed: Segue's kind, with the provider's own code and words."""

    kind: FailureKind
    message: str
    code: str | None = None
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderRef:
    """The provider's names for a run it accepted: enough to find it again after a restart."""

    request_id: str
    urls: Mapping[str, str]
    """Where the provider said to ask; kept, because its documentation says not to build them."""


@dataclass(frozen=True, slots=True)
class Callback:
    """What a provider's webhook says: which run it is about. How the run stands is asked of the provider itself."""

    ref: ProviderRef
    over: bool
    """It says that the run has ended."""


@dataclass(frozen=True, slots=True)
class Output:
    """One file that a run made, still at the provider."""

    url: str
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the run: from now on it may cost money."""

    ref: ProviderRef


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request never left: no name, no connection, no TLS, no free connection. Sending it again is safe."""

    reason: str
    held_up: bool = False
    """It was this process that came too late; it says nothing about the provider."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """The provider refused for now; nothing was accepted, and sending it later is safe."""

    failure: Failure
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A definite answer that no run was made."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class CallbackRefused:
    """A definite answer that no run was made, because of the address for callbacks; sending it without one is safe."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Unclear:
    """The request may have been accepted: no answer, or none that tells. It must not be sent again."""

    reason: str
    answered: bool = False
    """The provider itself has answered: it is done with the request, whatever has come of it."""


SubmitOutcome = Accepted | NotSent | Throttled | Refused | CallbackRefused | Unclear


@dataclass(frozen=True, slots=True)
class Waiting:
    """Accepted, not started."""

    queue_position: int | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """Started, not finished."""


@dataclass(frozen=True, slots=True)
class Produced:
    """Finished, with outputs to fetch."""

    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class OutputPending:
    """The run finished well, and its output is not there yet; asking again later is right."""

    reason: str
    instead: tuple[Output, ...] = ()
    """What there is beside its empty place, and may stand for it if nothing else comes."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The run finished well, with a result that holds nothing that can be read as an output."""

    reason: str
    raw: str
    """The result as text, sanitised, of at most 2000 characters."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Finished without a result."""

    failure: Failure
    may_have_cost: bool


@dataclass(frozen=True, slots=True)
class Stopped:
    """Ended by a cancel or by the provider's own deadline."""

    may_have_cost: bool


@dataclass(frozen=True, slots=True)
class Missing:
    """The provider does not know the run any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The question itself failed; nothing is known, and asking again is safe."""

    reason: str
    retry_after_s: float | None = None
    finished: bool = False
    """The provider has said that the run has finished, and it is its result that could not be had."""


CheckOutcome = Waiting | Running | Produced | OutputPending | Unreadable | Broken | Stopped | Missing | NoAnswer


@dataclass(frozen=True, slots=True)
class CancelPending:
    """The provider noted the wish; the run may still finish."""


@dataclass(frozen=True, slots=True)
class AlreadyOver:
    """The provider refuses the cancel: the run had ended before, or cannot be stopped; check says how it stands."""


CancelOutcome = Stopped | CancelPending | AlreadyOver | Missing | NoAnswer


@dataclass(frozen=True, slots=True)
class Found:
    """The run whose submit's answer was lost: the provider has it."""

    ref: ProviderRef


@dataclass(frozen=True, slots=True)
class NotFound:
    """The provider's listing answered, and the run is not in it."""

    conclusive: bool
    """The listing shows every accepted run at once, finished or not: then its absence is proof."""


FindOutcome = Found | NotFound | NoAnswer


@dataclass(frozen=True, slots=True)
class KeyAccepted:
    """The provider answers and accepts the key; asked without spending anything."""


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """The provider answers and does not accept the key."""

    failure: Failure


ProbeOutcome = KeyAccepted | KeyRefused | NoAnswer
