"""The response models of `/api/providers`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from contracts.generation import Provider
from gateway.http.plain import Answer
from gateway.views.schemas import ERROR_KIND

Status = Literal["ok", "fail"]


class BreakerAnswer(Answer):
    """A circuit breaker: whether it lets attempts pass."""

    state: Literal["closed", "open", "half_open"] = Field(
        description="closed: attempts pass. open: none passes. half_open: one passes as the probe, the others wait."
    )
    since: datetime | None = Field(description="The time of the last change of state; null if nothing was ever sent.")
    retry_at: datetime | None = Field(
        description="The time from which the next attempt passes as the probe; null while closed."
    )
    blocked_until: datetime | None = Field(description="Attempts wait until then, as the provider sent Retry-After.")
    failures: int = Field(description="Consecutive failures that count against the provider's health.")
    openings: int = Field(description="How often it has opened since it last recovered.")


class LastError(Answer):
    """The last failure that counted against a provider or an endpoint, even if it has recovered since."""

    kind: str | None = Field(description=ERROR_KIND)
    message: str = Field(description="The provider's error message.")
    at: datetime | None


class InFlight(Answer):
    """The number of attempts that the provider has or may have, by state."""

    total: int = 0
    submitting: int = 0
    running: int = 0
    collecting: int = 0
    cancelling: int = 0
    ambiguous: int = Field(default=0, description="Attempts of which it is not known yet if they were accepted.")


class Queued(Answer):
    """The number of attempts that wait in Segue to be sent."""

    total: int = 0
    held_back: int = Field(default=0, description="Attempts that wait for a limit or a Retry-After.")
    oldest_at: datetime | None = Field(default=None, description="The time at which the oldest one was ordered.")


class Recent(Answer):
    """The attempts that ended within the window, as far as their events are stored."""

    ended: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    kinds: dict[str, int] = Field(default_factory=dict, description="The number of failures by kind.")
    error_rate: float | None = Field(default=None, description="failed / (failed + succeeded); null if there are none.")
    provider_failed: int = Field(default=0, description="Failures that count against the provider's health.")
    provider_error_rate: float | None = Field(
        default=None, description="provider_failed / (provider_failed + succeeded); null if there are none."
    )
    p50_s: float | None = Field(default=None, description="Median seconds from submitted to succeeded.")
    p95_s: float | None = Field(default=None, description="95th percentile of the same.")


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
    """The last credential probe: a free request that shows whether the provider accepts the API key."""

    status: Status
    error: str | None
    since: datetime = Field(description="The time since which the probe has had the same result.")
    checked_at: datetime


class CapsAnswer(Answer):
    """Segue's own limits on what it sends to the provider; null: no limit."""

    concurrent_runs: int | None = None
    submits_per_minute: int | None = None


class WebhooksAnswer(Answer):
    """Whether the provider's callbacks arrive, from its newest attempts of the window, 500 at most."""

    expected: int = Field(description="Runs that ended at the provider and for which a callback was requested.")
    heard: int = Field(description="Those whose callback arrived in time.")
    arriving: bool | None = Field(description="Whether that of the last run arrived; null if none was expected.")


class ProviderAnswer(Answer):
    """One provider, with its endpoints."""

    provider: Provider
    status: Literal["ok", "fail", "disabled"] = Field(
        description="As in /api/health/providers. disabled: SEGUE_PROVIDERS leaves it out, and no job goes there."
    )
    error: str | None = Field(description="Why the provider is unhealthy; null if it is healthy.")
    since: datetime | None = Field(description="The time since which it has had this status.")
    breaker: BreakerAnswer
    last_error: LastError | None
    probe: ProbeAnswer | None = Field(description="Null until the adapter's first credential probe.")
    webhooks: WebhooksAnswer
    caps: CapsAnswer
    in_flight: InFlight
    queued: Queued
    fetches_failing: int = Field(
        description="Attempts whose outputs are paid for and could not be fetched at the last try; it is repeated."
    )
    late: int = Field(description="Attempts that have ended and whose runs are still followed up.")
    recent: Recent
    endpoints: list[EndpointAnswer]


class ProviderList(Answer):
    """The status of all providers."""

    as_of: datetime = Field(description="The time at which the status was read.")
    window_s: float = Field(description="The seconds before `as_of` that `recent` and `webhooks` cover.")
    providers: list[ProviderAnswer]
