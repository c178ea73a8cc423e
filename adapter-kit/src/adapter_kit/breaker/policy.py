"""The breaker: whether a provider, or one of its endpoints, may be asked for another run now. Pure.

A breaker, a rate and a cap on concurrent runs, in one row that all replicas share. The breaker is fed only by failures
that say something about the provider; it opens for a time that doubles with every opening, lets one leased probe
through, and closes on that probe's success. When a replica dies during its probe, the lease runs out.

The probe is a paid run. Beside it the provider is asked for free whether it takes the key: that goes first, keeps a
breaker shut whose key is refused, and makes one due whose key is taken again. It never closes one by itself.
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
"""How long a breaker that is due waits for the free probe's answer."""
KEPT_SHUT_S: Final = 30.0
"""How long a refused free probe keeps a breaker shut; by then the next one has been sent, if anybody is there to."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the provider lets us do at a time; None: no limit known."""

    concurrent: int | None = None
    """Runs under way."""
    per_minute: int | None = None
    """Submits."""


@dataclass(frozen=True, slots=True)
class LastError:
    """The last error that a breaker counted, and when."""

    kind: FailureKind
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state of one breaker."""

    scope: str
    """An endpoint, or `provider` for the provider as a whole."""
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
    """The provider sent Retry-After: nothing is submitted before then."""
    tokens: float | None = None
    tokens_at: datetime | None = None
    error: str | None = None
    """What is held against it now."""
    last_error: LastError | None = None
    """What was last said against it, even if it is well again."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The run may be submitted; the breaker has counted it."""

    breaker: Breaker


@dataclass(frozen=True, slots=True)
class Held:
    """Wait until then: a rate or a concurrency limit is reached."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Shut:
    """The breaker is open; the provider may be asked again at that time."""

    until: datetime
    reason: str


def admit(
    breaker: Breaker, limits: Limits, in_flight: int, now: datetime, *, lease_s: float = PROBE_LEASE_S
) -> Admitted | Held | Shut:
    """Whether one more run may be submitted; one that passes as the probe has a lease of `lease_s` seconds."""
    if (shut_until := _shut_until(breaker, now)) is not None:
        return Shut(shut_until, breaker.error or "it failed too often")
    if breaker.blocked_until is not None and now < breaker.blocked_until:
        return Held(breaker.blocked_until, "the provider sent Retry-After")
    if limits.concurrent is not None and in_flight >= limits.concurrent:
        return Held(now + timedelta(seconds=FULL_WAIT_S), f"{in_flight} runs are under way, as many as it takes")
    taken = _take_token(breaker, limits, now)
    if isinstance(taken, Held) or taken.state == "closed":
        return taken if isinstance(taken, Held) else Admitted(taken)
    return Admitted(replace(taken, state="half_open", probe_at=now, probe_until=now + timedelta(seconds=lease_s)))


def _shut_until(breaker: Breaker, now: datetime) -> datetime | None:
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
    # No burst beyond a tenth of the minute's worth: an account with little credit may be allowed a burst of one.
    most = max(1.0, limits.per_minute / 10)
    tokens = most if breaker.tokens is None else breaker.tokens
    if breaker.tokens_at is not None:
        tokens = min(most, tokens + max(0.0, (now - breaker.tokens_at).total_seconds()) * rate)
    if tokens < 1:
        wait = timedelta(seconds=(1 - tokens) / rate)
        return Held(now + wait, f"it takes {limits.per_minute} submits a minute")
    return replace(breaker, tokens=tokens - 1, tokens_at=now)


def record_success(breaker: Breaker, now: datetime) -> Breaker:
    """A run was accepted or finished: the breaker closes."""
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
    """Count a failure of a kind that has a breaker; enough of them in a row open it.

    `open_s` is how long the first opening lasts, in seconds.
    """
    traits = FAILURES[kind]
    if traits.breaker is None:
        return breaker
    failed = _accused(replace(breaker, failures=breaker.failures + 1), kind, message, now)
    if breaker.state == "open" and breaker.open_until is not None and now < breaker.open_until:
        return replace(failed, failures=breaker.failures)  # What was under way when it opened says nothing new.
    if breaker.state == "closed" and failed.failures < THRESHOLD and not traits.opens_at_once:
        return failed
    shut_s = min(open_s * OPEN_AT_MOST_S / OPEN_S, open_s * 2.0**breaker.openings) * (1 + _jitter(breaker) / 4)
    return replace(
        failed,
        state="open",
        since=now if breaker.state == "closed" else breaker.since,
        openings=breaker.openings + 1,
        opened_at=now,
        open_until=now + timedelta(seconds=shut_s),
        shut_for=kind,
        probe_at=None,
        probe_until=None,
        asked_at=None,
    )


def blocked(breaker: Breaker, until: datetime) -> Breaker:
    """The provider sent Retry-After."""
    return replace(breaker, blocked_until=max(until, breaker.blocked_until or until))


def throttled(breaker: Breaker, message: str, now: datetime) -> Breaker:
    """Record a 429: it is shown as the last error, and does not count as a failure."""
    return replace(breaker, last_error=LastError(FailureKind.RATE_LIMITED, message[:500], now))


def awaits_probe(breaker: Breaker) -> bool:
    """Whether the result of a credential probe concerns this breaker."""
    return breaker.state != "closed" and breaker.shut_for is not None and FAILURES[breaker.shut_for].probed_first


def probed(breaker: Breaker, outcome: ProbeOutcome, sent_at: datetime, now: datetime) -> Breaker:
    """Apply the result of a credential probe to an open breaker; while a paid probe is under way, it has no effect."""
    if breaker.shut_for is None or not awaits_probe(breaker):
        return breaker
    if breaker.probe_until is not None and now < breaker.probe_until:
        return breaker
    if breaker.opened_at is not None and sent_at < breaker.opened_at:
        return breaker  # It was answered before anything was wrong.
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
            return _accused(replace(asked, open_until=kept, hurried=False), failure.kind, failure.message, now)
        case _:
            return asked


def probe_accepted(breaker: Breaker, sent_at: datetime | None, until: datetime) -> Breaker:
    """The provider took the run that was sent then; if that is the probe, it has until `until` to end well."""
    if not is_probe(breaker, sent_at):
        return breaker
    return replace(breaker, probe_until=max(until, breaker.probe_until or until))


def probe_over(breaker: Breaker, sent_at: datetime | None, now: datetime) -> Breaker:
    """The run that was sent then ended without a verdict; if it was the probe, the next one may go."""
    return replace(breaker, probe_until=now) if is_probe(breaker, sent_at) else breaker


def is_probe(breaker: Breaker, sent_at: datetime | None) -> bool:
    """Whether what was sent then is the breaker's probe."""
    # The claim that lets the probe through dates both: the breaker's half-opening and the attempt's submit.
    return breaker.state == "half_open" and sent_at is not None and breaker.probe_at == sent_at


def _accused(breaker: Breaker, kind: FailureKind, message: str, now: datetime) -> Breaker:
    return replace(breaker, error=message[:500], last_error=LastError(kind, message[:500], now))


def _jitter(breaker: Breaker) -> float:
    return crc32(f"{breaker.scope}:{breaker.openings}:{breaker.since.isoformat()}".encode()) / 2**32
