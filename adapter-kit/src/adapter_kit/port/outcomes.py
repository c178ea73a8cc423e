"""The outcomes of requests to a provider, as closed sets of types that the attempt machine handles.

A provider's implementation maps every response, and every failure to get one, to one of these types. It raises nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from contracts.failures import FailureKind

ErrorWord = Literal[
    "connect",
    "timeout",
    "broken_off",
    "http_2xx",
    "http_3xx",
    "http_4xx",
    "http_5xx",
    "unreadable",
    "missing",
    "not_yet",
    "held_up",
    "internal",
    "no_answer",
]
"""Why a request failed, in one word, for metrics and spans: a closed list, in addition to the kinds of failure."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure: its kind in Segue, with the provider's own error code and message."""

    kind: FailureKind
    message: str
    code: str | None = None
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderRef:
    """The provider's reference to a run: all that is needed to address the run after a restart."""

    request_id: str
    urls: Mapping[str, str]
    """The URLs of the run from the response, if the provider advises against constructing them; otherwise empty."""


@dataclass(frozen=True, slots=True)
class Callback:
    """The run that a callback is about."""

    ref: ProviderRef
    over: bool
    """The callback reports that the run has ended."""
    at_work: bool = False
    """The callback reports that the run has started and goes on."""


@dataclass(frozen=True, slots=True)
class Output:
    """An output file of a run, at the provider."""

    url: str
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider accepted the run, which may be billed from now on."""

    ref: ProviderRef


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request was not sent: no DNS name, connection, TLS session or free connection. It can be repeated safely."""

    reason: str
    held_up: bool = False
    """The cause is this process, which was suspended or too slow, and not the provider."""
    word: ErrorWord = "connect"


@dataclass(frozen=True, slots=True)
class Throttled:
    """The provider limited the rate; no run was created, and the request can be repeated safely."""

    failure: Failure
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A definite response that no run was created."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class CallbackRefused:
    """A definite response that no run was created because of the callback URL; repeating it without one is safe."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Unclear:
    """The request may have been accepted: there was no response, or an ambiguous one. It must not be sent again."""

    reason: str
    answered: bool = False
    """The provider sent a response, so that it is no longer processing the request."""
    word: ErrorWord = "no_answer"


SubmitOutcome = Accepted | NotSent | Throttled | Refused | CallbackRefused | Unclear


@dataclass(frozen=True, slots=True)
class Waiting:
    """The run is queued at the provider."""

    queue_position: int | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """The run has started, and has not finished."""


@dataclass(frozen=True, slots=True)
class Produced:
    """The run has finished, with outputs to fetch."""

    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class OutputPending:
    """The run has succeeded, but its output is not available yet; it should be checked again."""

    reason: str
    instead: tuple[Output, ...] = ()
    """Other outputs of the result, to be used if the expected one does not become available."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The run has succeeded, but no output can be recognized in its result."""

    reason: str
    raw: str
    """The result as text, sanitised, of at most 2000 characters."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The run has failed."""

    failure: Failure
    may_have_cost: bool


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run was ended by a cancel, or by the provider's own time limit."""

    may_have_cost: bool


@dataclass(frozen=True, slots=True)
class Missing:
    """The provider does not know the run."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request failed; nothing is known about the run, and the request can be repeated safely."""

    reason: str
    retry_after_s: float | None = None
    finished: bool = False
    """The provider reported the run as finished, but its result could not be read."""
    word: ErrorWord = "no_answer"


CheckOutcome = Waiting | Running | Produced | OutputPending | Unreadable | Broken | Stopped | Missing | NoAnswer


@dataclass(frozen=True, slots=True)
class CancelPending:
    """The provider accepted the cancel request; the run may still finish."""


@dataclass(frozen=True, slots=True)
class AlreadyOver:
    """The provider refused the cancel request: the run has ended, or cannot be stopped. A check returns its status."""


CancelOutcome = Stopped | CancelPending | AlreadyOver | Missing | NoAnswer


@dataclass(frozen=True, slots=True)
class Found:
    """The run of the lost submit, or one with the same input, is in the listing."""

    ref: ProviderRef
    conclusive: bool = False
    """The listing contains every run as soon as it is accepted."""


@dataclass(frozen=True, slots=True)
class NotFound:
    """The run of the lost submit is not in the listing, which was read."""

    conclusive: bool
    """The listing contains every run as soon as it is accepted, so that absence is proof."""
    twin_listed_by: datetime | None = None
    """Set if another attempt with the same input took a run that may have been this one's.

    By this time the run of that other attempt is in the listing; before, absence is no proof. A provider leaves it out.
    """


FindOutcome = Found | NotFound | NoAnswer


@dataclass(frozen=True, slots=True)
class KeyAccepted:
    """The provider answered and accepted the key, to a request that costs nothing."""


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """The provider answered and refused the key."""

    failure: Failure


ProbeOutcome = KeyAccepted | KeyRefused | NoAnswer
