"""What `/api/providers` answers: the shapes that clients read."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from contracts.generation import Provider
from gateway.http.plain import Answer

Status = Literal["ok", "fail"]


class BreakerAnswer(Answer):
    """Whether attempts are let through."""

    state: Literal["closed", "open", "half_open"] = Field(
        description="closed: attempts pass. open: none does. half_open: one is under way as a probe, the others wait."
    )
    since: datetime | None = Field(description="Since when it is in this state; null where nothing was ever asked.")
    retry_at: datetime | None = Field(
        description="When it will be asked again: from then on the next attempt passes as the probe. Null while closed."
    )
    blocked_until: datetime | None = Field(description="The provider sent Retry-After: attempts wait until then.")
    failures: int = Field(description="Failures in a row that say something about the provider.")
    openings: int = Field(description="How often it has opened since it was last well.")


class LastError(Answer):
    """What was last said against a provider or an endpoint, even if it is well again."""

    kind: str | None = Field(description="From Segue's closed list.")
    message: str = Field(description="The provider's own words.")
    at: datetime | None


class InFlight(Answer):
    """Attempts that the provider has, or may have."""

    total: int = 0
    submitting: int = 0
    running: int = 0
    collecting: int = 0
    cancelling: int = 0
    ambiguous: int = Field(default=0, description="Nobody knows yet whether the provider accepted them.")


class Queued(Answer):
    """Attempts that wait in Segue."""

    total: int = 0
    held_back: int = Field(default=0, description="Those that wait for the provider's caps or patience.")
    oldest_at: datetime | None = Field(default=None, description="When the one that waits longest was ordered.")


class Recent(Answer):
    """How the attempts went that ended within the window, as far as their events are stored."""

    ended: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    kinds: dict[str, int] = Field(default_factory=dict, description="The failures, by kind.")
    error_rate: float | None = Field(default=None, description="Failed, of failed and succeeded; null where none were.")
    provider_failed: int = Field(default=0, description="Failures that say something about the provider's health.")
    provider_error_rate: float | None = Field(
        default=None, description="Such failures, of those and the succeeded ones; null where none were."
    )
    p50_s: float | None = Field(default=None, description="Seconds from submitted to succeeded, for half of them.")
    p95_s: float | None = Field(default=None, description="The same for 95 in a hundred.")


class EndpointAnswer(Answer):
    """One endpoint of a provider."""

    endpoint: str = Field(description="The provider's name for the model.")
    status: Status = Field(description="ok while its own breaker is closed.")
    breaker: BreakerAnswer
    last_error: LastError | None
    in_flight: InFlight
    queued: Queued
    recent: Recent


class ProbeAnswer(Answer):
    """What the provider said when it was last asked, for free, whether it takes the key."""

    status: Status
    error: str | None
    since: datetime = Field(description="Since when it says the same.")
    checked_at: datetime


class CapsAnswer(Answer):
    """What Segue lets through to the provider; null: no limit."""

    concurrent_runs: int | None = None
    submits_per_minute: int | None = None


class WebhooksAnswer(Answer):
    """Whether the provider calls back, from its newest attempts of the window, 500 at most."""

    expected: int = Field(description="Runs that have ended at the provider, and that it was to call back about.")
    heard: int = Field(description="Those that it did call back about in time.")
    arriving: bool | None = Field(description="Whether it did for the very last one; null where none was expected.")


class ProviderAnswer(Answer):
    """One provider, with its endpoints."""

    provider: Provider
    status: Status = Field(description="As in /api/health/providers.")
    error: str | None = Field(description="What is wrong, in words.")
    since: datetime | None = Field(description="Since when it is well, or not.")
    breaker: BreakerAnswer
    last_error: LastError | None
    probe: ProbeAnswer | None = Field(description="Null until the provider's adapter has asked for the first time.")
    webhooks: WebhooksAnswer
    caps: CapsAnswer
    in_flight: InFlight
    queued: Queued
    late: int = Field(description="Attempts that have ended, and whose runs are still looked after.")
    recent: Recent
    endpoints: list[EndpointAnswer]


class ProviderList(Answer):
    """How each provider does."""

    as_of: datetime = Field(description="When all of this was read.")
    window_s: float = Field(description="How many seconds back `recent` and `webhooks` reach.")
    providers: list[ProviderAnswer]
