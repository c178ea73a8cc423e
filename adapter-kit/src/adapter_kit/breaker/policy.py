"""The gate: whether a provider, or one of its endpoints, may be asked for another run now. Pure.

A breaker, a rate and a cap on concurrent runs, in one row that all replicas share. The breaker is fed only by failures
that say something about the provider; it opens for a time that doubles with every opening, lets one leased probe
through, and closes on that probe's success. A replica that dies with the probe in hand loses the lease with it.

The probe is a paid run. Beside it the provider is asked for free whether it takes the key: that goes first, keeps a
gate shut whose key is refused, and makes one due whose key is taken again. It never closes one by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal
from zlib import crc32

from adapter_kit.port.outcomes import KeyAccepted, KeyRefused, ProbeOutcome
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

ASKED_FIRST: Final = OF_THE_ACCOUNT | {FailureKind.FORBIDDEN}
"""Kinds of which the free probe may know more: it is asked before a paid one is spent."""

SEEN_FOR_FREE: Final = ASKED_FIRST - {FailureKind.INSUFFICIENT_BALANCE}
"""Kinds that a content free probe speaks against; of a balance it knows nothing."""

KEPT_SHUT_FOR: Final = frozenset({FailureKind.UNAUTHORIZED, FailureKind.INSUFFICIENT_BALANCE})
"""What a free probe has to be refused for to keep a gate shut: it may be forbidden what runs are not."""

THRESHOLD: Final = 5
OPEN_S: Final = 5.0
OPEN_AT_MOST_S: Final = 300.0
PROBE_LEASE_S: Final = 60.0
FULL_WAIT_S: Final = 1.0
ASKED_WITHIN_S: Final = 15.0
"""How long a gate that is due waits for the free probe's answer."""
KEPT_SHUT_S: Final = 30.0
"""How long a refused free probe keeps a gate shut; by then the next one has been sent, if anybody is there to."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the provider lets us do at a time; None: no limit known."""

    concurrent: int | None = None
    """Runs under way."""
    per_minute: int | None = None
    """Submits."""


@dataclass(frozen=True, slots=True)
class Said:
    """What was said against a provider, and when."""

    kind: FailureKind
    message: str
    at: datetime


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
    opened_at: datetime | None = None
    """When the breaker opened last."""
    open_until: datetime | None = None
    shut_for: FailureKind | None = None
    """What opened the breaker last."""
    probe_at: datetime | None = None
    """While half open: when the probe under way was let through."""
    probe_until: datetime | None = None
    """While half open: when the probe under way counts as lost."""
    asked_at: datetime | None = None
    """When the free probe last had an answer, or none, since the breaker opened."""
    hurried: bool = False
    """A content free probe has made it due before its time; it is not believed twice."""
    blocked_until: datetime | None = None
    """The provider asked for patience until then."""
    tokens: float | None = None
    tokens_at: datetime | None = None
    error: str | None = None
    """What is held against it now."""
    last_error: Said | None = None
    """What was last said against it, even if it is well again."""


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


def admit(
    gate: Gate, limits: Limits, in_flight: int, now: datetime, *, lease_s: float = PROBE_LEASE_S
) -> Admitted | Held | Shut:
    """Whether one more run may be asked for; one that is let through as the probe has a lease of `lease_s`."""
    if (shut_until := _shut_until(gate, now)) is not None:
        return Shut(shut_until, gate.error or "it failed too often")
    if gate.blocked_until is not None and now < gate.blocked_until:
        return Held(gate.blocked_until, "the provider asked for patience")
    if limits.concurrent is not None and in_flight >= limits.concurrent:
        return Held(now + timedelta(seconds=FULL_WAIT_S), f"{in_flight} runs are under way, as many as it takes")
    taken = _take_token(gate, limits, now)
    if isinstance(taken, Held) or taken.state == "closed":
        return taken if isinstance(taken, Held) else Admitted(taken)
    return Admitted(replace(taken, state="half_open", probe_at=now, probe_until=now + timedelta(seconds=lease_s)))


def _shut_until(gate: Gate, now: datetime) -> datetime | None:
    if gate.state == "half_open" and gate.probe_until is not None and now < gate.probe_until:
        return min(gate.probe_until, now + timedelta(seconds=OPEN_S))
    if gate.state != "open" or gate.open_until is None:
        return None
    if now < gate.open_until:
        return gate.open_until
    asked_by = gate.open_until + timedelta(seconds=ASKED_WITHIN_S)
    if wants_asking(gate) and gate.asked_at is None and now < asked_by:
        return min(asked_by, now + timedelta(seconds=FULL_WAIT_S))
    return None


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
        gate,
        state="closed",
        since=now,
        failures=0,
        openings=0,
        opened_at=None,
        open_until=None,
        shut_for=None,
        probe_at=None,
        probe_until=None,
        asked_at=None,
        hurried=False,
        error=None,
    )


def ill(gate: Gate, kind: FailureKind, message: str, now: datetime, *, open_s: float = OPEN_S) -> Gate:
    """Something failed in a way that says something about the provider: enough of it opens the breaker.

    `open_s` is how long the first opening lasts, in seconds.
    """
    if not FAILURES[kind].trips_breaker:
        return gate
    failed = _accused(replace(gate, failures=gate.failures + 1), kind, message, now)
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
        opened_at=now,
        open_until=now + timedelta(seconds=shut_s),
        shut_for=kind,
        probe_at=None,
        probe_until=None,
        asked_at=None,
    )


def blocked(gate: Gate, until: datetime) -> Gate:
    """The provider asked for patience."""
    return replace(gate, blocked_until=max(until, gate.blocked_until or until))


def throttled(gate: Gate, message: str, now: datetime) -> Gate:
    """The provider said that it was asked too often: worth telling, and nothing against its health."""
    return replace(gate, last_error=Said(FailureKind.RATE_LIMITED, message[:500], now))


def wants_asking(gate: Gate) -> bool:
    """Whether a free probe may have news for this gate."""
    return gate.state != "closed" and gate.shut_for in ASKED_FIRST


def probed(gate: Gate, outcome: ProbeOutcome, sent_at: datetime, now: datetime) -> Gate:
    """What a free probe means to a gate that is shut; while a paid one is under way, nothing."""
    if not wants_asking(gate) or (gate.probe_until is not None and now < gate.probe_until):
        return gate
    if gate.opened_at is not None and sent_at < gate.opened_at:
        return gate  # It was answered before anything was wrong.
    asked = replace(gate, asked_at=now)
    due_at = gate.open_until or now
    match outcome:
        case KeyAccepted() if gate.shut_for in SEEN_FOR_FREE and not gate.hurried and now < due_at:
            return replace(asked, open_until=now, hurried=True)
        case KeyRefused(failure) if gate.shut_for != FailureKind.UNREACHABLE and failure.kind in KEPT_SHUT_FOR:
            kept = max(due_at, now + timedelta(seconds=KEPT_SHUT_S))
            if gate.state == "half_open":
                asked = replace(asked, state="open", opened_at=now, probe_at=None, probe_until=None)
            return _accused(replace(asked, open_until=kept, hurried=False), failure.kind, failure.message, now)
        case _:
            return asked


def probe_accepted(gate: Gate, sent_at: datetime | None, until: datetime) -> Gate:
    """The provider took the run that was sent then; if that is the probe, it has until `until` to end well."""
    if not is_probe(gate, sent_at):
        return gate
    return replace(gate, probe_until=max(until, gate.probe_until or until))


def probe_over(gate: Gate, sent_at: datetime | None, now: datetime) -> Gate:
    """What was sent then is over without a verdict; if it was the probe, the next one may go."""
    return replace(gate, probe_until=now) if is_probe(gate, sent_at) else gate


def is_probe(gate: Gate, sent_at: datetime | None) -> bool:
    """Whether what was sent then is the gate's probe."""
    # The claim that lets the probe through dates both: the gate's half-opening and the attempt's submit.
    return gate.state == "half_open" and sent_at is not None and gate.probe_at == sent_at


def _accused(gate: Gate, kind: FailureKind, message: str, now: datetime) -> Gate:
    return replace(gate, error=message[:500], last_error=Said(kind, message[:500], now))


def _jitter(gate: Gate) -> float:
    return crc32(f"{gate.scope}:{gate.openings}:{gate.since.isoformat()}".encode()) / 2**32
