"""The circuit breaker: whether another run may be submitted to a provider or to one of its endpoints. Pure.

One row holds a breaker, a rate limit and a concurrency limit, and all replicas share it. Only failures that concern the
provider count. The breaker opens for a time that doubles with each opening, then admits one run as a probe under a
lease, and closes when that run succeeds. If the replica dies during the probe, the lease expires.

The probe is a paid run. The credential probe costs nothing and is sent first: if the key is refused, the breaker stays
open; if the key is accepted, the paid probe may be sent early. A credential probe never closes a breaker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal
from zlib import crc32

from adapter_kit.port.outcomes import KeyAccepted, KeyRefused, ProbeOutcome
from contracts.failures import FAILURES, FailureKind

THRESHOLD: Final = 5
OPEN_S: Final = 5.0
OPEN_AT_MOST_S: Final = 300.0
PROBE_LEASE_S: Final = 60.0
FULL_WAIT_S: Final = 1.0
ASKED_WITHIN_S: Final = 15.0
"""Seconds that the paid probe waits for a result of the credential probe."""
KEPT_SHUT_S: Final = 30.0
"""Seconds that a refused key keeps a breaker open; the next credential probe is sent before they end."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The provider's limits for our account; None if unknown."""

    concurrent: int | None = None
    """Concurrent runs."""
    per_minute: int | None = None
    """Submits per minute."""


@dataclass(frozen=True, slots=True)
class LastError:
    """The last error that was recorded for a breaker."""

    kind: FailureKind
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state of one breaker."""

    scope: str
    """An endpoint, or `provider` for the provider as a whole."""
    since: datetime
    """When it last changed between closed and not closed."""
    state: Literal["closed", "open", "half_open"] = "closed"
    failures: int = 0
    """Consecutive failures."""
    openings: int = 0
    """Openings since it was last closed."""
    opened_at: datetime | None = None
    """When it last opened."""
    open_until: datetime | None = None
    shut_for: FailureKind | None = None
    """The kind of the failure that opened it last."""
    probe_at: datetime | None = None
    """While half open: when the probe was admitted."""
    probe_until: datetime | None = None
    """While half open: when the lease of the probe expires."""
    asked_at: datetime | None = None
    """When the last credential probe since the opening ended, with or without a response."""
    hurried: bool = False
    """An accepted key has made the paid probe due early, which happens once per opening."""
    blocked_until: datetime | None = None
    """The end of the delay in the provider's Retry-After; nothing is submitted before."""
    tokens: float | None = None
    tokens_at: datetime | None = None
    error: str | None = None
    """The message of the current failure; None if there is none."""
    last_error: LastError | None = None
    """The last error, kept after the breaker has closed."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The run may be submitted; `breaker` is the state that includes it."""

    breaker: Breaker


@dataclass(frozen=True, slots=True)
class Held:
    """A rate limit, a concurrency limit or Retry-After holds the run until `until`."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Shut:
    """The breaker is open; a run may be submitted again at `until`."""

    until: datetime
    reason: str


def admit(
    breaker: Breaker, limits: Limits, in_flight: int, now: datetime, *, lease_s: float = PROBE_LEASE_S
) -> Admitted | Held | Shut:
    """Whether one more run may be submitted. A run that is admitted as the probe has a lease of `lease_s` seconds."""
    if (not_before := _not_before(breaker, now)) is not None:
        return Shut(not_before, breaker.error or "too many failures")
    if breaker.blocked_until is not None and now < breaker.blocked_until:
        return Held(breaker.blocked_until, "the provider sent Retry-After")
    if limits.concurrent is not None and in_flight >= limits.concurrent:
        return Held(now + timedelta(seconds=FULL_WAIT_S), f"{in_flight} runs are in progress, which is the limit")
    taken = _take_token(breaker, limits, now)
    if isinstance(taken, Held) or taken.state == "closed":
        return taken if isinstance(taken, Held) else Admitted(taken)
    return Admitted(replace(taken, state="half_open", probe_at=now, probe_until=now + timedelta(seconds=lease_s)))


def _not_before(breaker: Breaker, now: datetime) -> datetime | None:
    if breaker.state == "half_open" and breaker.probe_until is not None and now < breaker.probe_until:
        return min(breaker.probe_until, now + timedelta(seconds=OPEN_S))
    if breaker.state != "open" or breaker.open_until is None:
        return None
    if now < breaker.open_until:
        return breaker.open_until
    asked_by = breaker.open_until + timedelta(seconds=ASKED_WITHIN_S)
    if awaits_probe(breaker) and breaker.asked_at is None and now < asked_by:
        return min(asked_by, now + timedelta(seconds=FULL_WAIT_S))
    return None


def _take_token(breaker: Breaker, limits: Limits, now: datetime) -> Breaker | Held:
    if limits.per_minute is None:
        return breaker
    rate = limits.per_minute / 60
    # The burst is a tenth of the rate at most: accounts with little credit may be limited to a burst of one.
    most = max(1.0, limits.per_minute / 10)
    tokens = most if breaker.tokens is None else breaker.tokens
    if breaker.tokens_at is not None:
        tokens = min(most, tokens + max(0.0, (now - breaker.tokens_at).total_seconds()) * rate)
    if tokens < 1:
        wait = timedelta(seconds=(1 - tokens) / rate)
        return Held(now + wait, f"the limit is {limits.per_minute} submits per minute")
    return replace(breaker, tokens=tokens - 1, tokens_at=now)


def record_success(breaker: Breaker, now: datetime) -> Breaker:
    """Close the breaker: a run was accepted or finished."""
    if breaker.state == "closed":
        return replace(breaker, failures=0, error=None) if breaker.failures else breaker
    return replace(
        breaker,
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


def record_failure(
    breaker: Breaker, kind: FailureKind, message: str, now: datetime, *, open_s: float = OPEN_S
) -> Breaker:
    """Count a failure if its kind concerns a breaker; `THRESHOLD` consecutive ones open it.

    `open_s` is the duration of the first opening in seconds.
    """
    traits = FAILURES[kind]
    if traits.breaker is None:
        return breaker
    failed = _with_error(replace(breaker, failures=breaker.failures + 1), kind, message, now)
    if breaker.state == "open" and breaker.open_until is not None and now < breaker.open_until:
        return replace(failed, failures=breaker.failures)  # A run from before the opening; it does not count again.
    if breaker.state == "closed" and failed.failures < THRESHOLD and not traits.opens_at_once:
        return failed
    opening_s = min(open_s * OPEN_AT_MOST_S / OPEN_S, open_s * 2.0**breaker.openings) * (1 + _jitter(breaker) / 4)
    return replace(
        failed,
        state="open",
        since=now if breaker.state == "closed" else breaker.since,
        openings=breaker.openings + 1,
        opened_at=now,
        open_until=now + timedelta(seconds=opening_s),
        shut_for=kind,
        probe_at=None,
        probe_until=None,
        asked_at=None,
    )


def blocked(breaker: Breaker, until: datetime) -> Breaker:
    """Submit nothing before `until`, as the provider's Retry-After demands."""
    return replace(breaker, blocked_until=max(until, breaker.blocked_until or until))


def throttled(breaker: Breaker, message: str, now: datetime) -> Breaker:
    """Record a 429: it is shown as the last error and does not count as a failure."""
    return replace(breaker, last_error=LastError(FailureKind.RATE_LIMITED, message[:500], now))


def awaits_probe(breaker: Breaker) -> bool:
    """Whether the result of a credential probe concerns this breaker."""
    return breaker.state != "closed" and breaker.shut_for is not None and FAILURES[breaker.shut_for].probed_first


def probed(breaker: Breaker, outcome: ProbeOutcome, sent_at: datetime, now: datetime) -> Breaker:
    """Apply the result of a credential probe to an open breaker; during a paid probe it has no effect."""
    if breaker.shut_for is None or not awaits_probe(breaker):
        return breaker
    if breaker.probe_until is not None and now < breaker.probe_until:
        return breaker
    if breaker.opened_at is not None and sent_at < breaker.opened_at:
        return breaker  # It was sent before the breaker opened.
    asked = replace(breaker, asked_at=now)
    due_at = breaker.open_until or now
    match outcome:
        case KeyAccepted() if FAILURES[breaker.shut_for].probe_clears and not breaker.hurried and now < due_at:
            return replace(asked, open_until=now, hurried=True)
        case KeyRefused(failure) if (
            breaker.shut_for != FailureKind.UNREACHABLE and FAILURES[failure.kind].probe_confirms
        ):
            kept = max(due_at, now + timedelta(seconds=KEPT_SHUT_S))
            if breaker.state == "half_open":
                asked = replace(asked, state="open", opened_at=now, probe_at=None, probe_until=None)
            return _with_error(replace(asked, open_until=kept, hurried=False), failure.kind, failure.message, now)
        case _:
            return asked


def probe_accepted(breaker: Breaker, sent_at: datetime | None, until: datetime) -> Breaker:
    """The run sent at `sent_at` was accepted; if it is the probe, its lease is extended to `until`."""
    if not is_probe(breaker, sent_at):
        return breaker
    return replace(breaker, probe_until=max(until, breaker.probe_until or until))


def probe_over(breaker: Breaker, sent_at: datetime | None, now: datetime) -> Breaker:
    """The run sent at `sent_at` ended without a result for the breaker; if it was the probe, another may be sent."""
    return replace(breaker, probe_until=now) if is_probe(breaker, sent_at) else breaker


def is_probe(breaker: Breaker, sent_at: datetime | None) -> bool:
    """Whether the run sent at `sent_at` is the breaker's probe."""
    # The claim that admits the probe sets both times: `probe_at` of the breaker and the attempt's start of submit.
    return breaker.state == "half_open" and sent_at is not None and breaker.probe_at == sent_at


def _with_error(breaker: Breaker, kind: FailureKind, message: str, now: datetime) -> Breaker:
    return replace(breaker, error=message[:500], last_error=LastError(kind, message[:500], now))


def _jitter(breaker: Breaker) -> float:
    return crc32(f"{breaker.scope}:{breaker.openings}:{breaker.since.isoformat()}".encode()) / 2**32
