"""The gate: whether a provider, or one of its endpoints, may be asked for another run now. Pure.

A breaker, a rate and a cap on concurrent runs, in one row that all replicas share. The breaker is fed only by failures
that say something about the provider; it opens for a time that doubles with every opening, lets one leased probe
through, and closes on that probe's success. A replica that dies with the probe in hand loses the lease with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal
from zlib import crc32

from contracts.failures import FAILURES, FailureKind

OF_THE_ACCOUNT: Final = frozenset(
    {
        FailureKind.UNAUTHORIZED,
        FailureKind.INSUFFICIENT_BALANCE,
        FailureKind.UNREACHABLE,
    }
)
"""Kinds that shut the whole provider; the others shut the endpoint that they came from."""

AT_ONCE: Final = frozenset(
    {
        FailureKind.UNAUTHORIZED,
        FailureKind.INSUFFICIENT_BALANCE,
        FailureKind.FORBIDDEN,
        FailureKind.MODEL_NOT_FOUND,
    }
)
"""Kinds of which one is enough: the next request would be told the same."""

THRESHOLD: Final = 5
OPEN_S: Final = 5.0
OPEN_AT_MOST_S: Final = 300.0
PROBE_LEASE_S: Final = 60.0
FULL_WAIT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the provider lets us do at a time; None: no limit known."""

    concurrent: int | None = None
    """Runs under way."""
    per_minute: int | None = None
    """Submits."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The state of one gate."""

    scope: str
    """An endpoint; empty for the provider as a whole."""
    since: datetime
    """Since when the provider has been well, or not."""
    state: Literal["closed", "open", "half_open"] = "closed"
    failures: int = 0
    """How many in a row."""
    openings: int = 0
    """How many since it was last well."""
    open_until: datetime | None = None
    probe_until: datetime | None = None
    """While half open: when the probe under way counts as lost."""
    blocked_until: datetime | None = None
    """The provider asked for patience until then."""
    tokens: float | None = None
    tokens_at: datetime | None = None
    error: str | None = None
    """What was last said against it."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Go on; the gate has counted it."""

    gate: Gate


@dataclass(frozen=True, slots=True)
class Held:
    """Wait until then: the provider is well, but has enough to do."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Shut:
    """The provider is not well; it may be asked again at that time."""

    until: datetime
    reason: str


def admit(gate: Gate, limits: Limits, in_flight: int, now: datetime) -> Admitted | Held | Shut:
    """Whether one more run may be asked for."""
    if gate.state == "open" and gate.open_until is not None and now < gate.open_until:
        return Shut(gate.open_until, gate.error or "it failed too often")
    if gate.state == "half_open" and gate.probe_until is not None and now < gate.probe_until:
        return Shut(min(gate.probe_until, now + timedelta(seconds=OPEN_S)), gate.error or "it is being tried again")
    if gate.blocked_until is not None and now < gate.blocked_until:
        return Held(gate.blocked_until, "the provider asked for patience")
    if limits.concurrent is not None and in_flight >= limits.concurrent:
        return Held(now + timedelta(seconds=FULL_WAIT_S), f"{in_flight} runs are under way, as many as it takes")
    taken = _take_token(gate, limits, now)
    if isinstance(taken, Held) or taken.state == "closed":
        return taken if isinstance(taken, Held) else Admitted(taken)
    probing = replace(taken, state="half_open", probe_until=now + timedelta(seconds=PROBE_LEASE_S))
    return Admitted(probing)


def _take_token(gate: Gate, limits: Limits, now: datetime) -> Gate | Held:
    if limits.per_minute is None:
        return gate
    rate = limits.per_minute / 60
    # No burst beyond a tenth of the minute's worth: Replicate throttles low accounts at a burst of one.
    most = max(1.0, limits.per_minute / 10)
    tokens = most if gate.tokens is None else gate.tokens
    if gate.tokens_at is not None:
        tokens = min(most, tokens + max(0.0, (now - gate.tokens_at).total_seconds()) * rate)
    if tokens < 1:
        wait = timedelta(seconds=(1 - tokens) / rate)
        return Held(now + wait, f"it takes {limits.per_minute} submits a minute")
    return replace(gate, tokens=tokens - 1, tokens_at=now)


def well(gate: Gate, now: datetime) -> Gate:
    """A run was accepted or went well: the breaker closes."""
    if gate.state == "closed":
        return replace(gate, failures=0, error=None) if gate.failures else gate
    return replace(
        gate, state="closed", since=now, failures=0, openings=0, open_until=None, probe_until=None, error=None
    )


def ill(gate: Gate, kind: FailureKind, message: str, now: datetime, *, open_s: float = OPEN_S) -> Gate:
    """Something failed in a way that says something about the provider: enough of it opens the breaker.

    `open_s` is how long the first opening lasts, in seconds.
    """
    if not FAILURES[kind].trips_breaker:
        return gate
    failed = replace(gate, failures=gate.failures + 1, error=message[:500])
    if gate.state == "open" and gate.open_until is not None and now < gate.open_until:
        return replace(failed, failures=gate.failures)  # What was under way when it opened says nothing new.
    if gate.state == "closed" and failed.failures < THRESHOLD and kind not in AT_ONCE:
        return failed
    shut_s = min(open_s * OPEN_AT_MOST_S / OPEN_S, open_s * 2.0**gate.openings) * (1 + _jitter(gate) / 4)
    return replace(
        failed,
        state="open",
        since=now if gate.state == "closed" else gate.since,
        openings=gate.openings + 1,
        open_until=now + timedelta(seconds=shut_s),
        probe_until=None,
    )


def blocked(gate: Gate, until: datetime) -> Gate:
    """The provider asked for patience."""
    return replace(gate, blocked_until=max(until, gate.blocked_until or until))


def _jitter(gate: Gate) -> float:
    return crc32(f"{gate.scope}:{gate.openings}:{gate.since.isoformat()}".encode()) / 2**32
