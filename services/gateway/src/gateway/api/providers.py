"""`/api/providers`: the detailed status of each provider and of each of its endpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter

from contracts.failures import FAILURES, FailureKind
from contracts.generation import Provider
from contracts.providers.registry import PROVIDERS
from gateway.context import GatewayDep
from gateway.http.problem_document import documented
from gateway.queries.provider_status import WINDOW_S, ProviderStatus, ReportedHealth, Rows, health_error
from gateway.views.provider_schemas import (
    BreakerAnswer,
    CapsAnswer,
    EndpointAnswer,
    InFlight,
    LastError,
    ProbeAnswer,
    ProviderAnswer,
    ProviderList,
    Queued,
    Recent,
    WebhooksAnswer,
)

router = APIRouter(prefix="/api", tags=["overview"])


@router.get("/providers", responses=documented(HTTPStatus.SERVICE_UNAVAILABLE))
async def list_providers(gateway: GatewayDep) -> ProviderList:
    """List the status of each provider: breaker, last error, error rates, latency, attempts in flight and queued.

    The status is at most a second old. It is read from the database; no request to a provider is made.
    """
    return overview(await gateway.providers.read(), gateway.settings.providers)


def overview(status: ProviderStatus, enabled: Collection[Provider]) -> ProviderList:
    """The response model of the status of all providers."""
    providers = [_provider(status, provider, enabled=provider in enabled) for provider in PROVIDERS]
    return ProviderList(as_of=status.as_of, window_s=WINDOW_S, providers=providers)


def _provider(status: ProviderStatus, provider: Provider, *, enabled: bool) -> ProviderAnswer:
    rows = status.adapters[provider]
    health = rows.health[0] if rows.health else None
    probe = rows.probe[0] if rows.probe else None
    reported = (
        None if health is None else ReportedHealth(health["status"] == "ok", health["error"], health["checked_at"])
    )
    error = health_error(provider, reported, status.as_of) if enabled else None
    ended = [row for row in status.ended if row["provider"] == provider]
    latencies = {row["endpoint"]: row["seconds"] for row in status.latencies if row["provider"] == provider}
    # The breaker of the provider itself has an empty scope; each other scope is an endpoint.
    breakers = {row["scope"]: row for row in rows.breakers}
    endpoints = {row["endpoint"] for row in (*rows.load, *ended)} | breakers.keys() - {""}
    return ProviderAnswer(
        provider=provider,
        status="fail" if error else "ok" if enabled else "disabled",
        error=error,
        since=None if health is None or not enabled else health["since"],
        breaker=_breaker(breakers.get("")),
        last_error=_last_error(breakers.get("")),
        probe=None if probe is None else ProbeAnswer.model_validate(dict(probe)),
        webhooks=_webhooks(rows.callbacks),
        caps=CapsAnswer() if probe is None else CapsAnswer.model_validate(dict(probe)),
        in_flight=_in_flight(rows.load),
        queued=_queued(rows.load),
        # An adapter of an earlier release does not report them.
        fetches_failing=sum(row.get("fetches_failing", 0) for row in rows.load),
        late=sum(row["attempts"] for row in rows.load if row["state"] in ("succeeded", "failed", "cancelled")),
        recent=_recent(ended, latencies.get(None)),
        endpoints=[
            _endpoint(
                name,
                breakers.get(name),
                [row for row in rows.load if row["endpoint"] == name],
                _recent([row for row in ended if row["endpoint"] == name], latencies.get(name)),
            )
            for name in sorted(endpoints)
        ],
    )


def _endpoint(name: str, row: Any, load: Rows, recent: Recent) -> EndpointAnswer:
    breaker = _breaker(row)
    return EndpointAnswer(
        endpoint=name,
        status="ok" if breaker.state == "closed" else "fail",
        breaker=breaker,
        last_error=_last_error(row),
        in_flight=_in_flight(load),
        queued=_queued(load),
        recent=recent,
    )


def _breaker(row: Any) -> BreakerAnswer:
    if row is None:
        return BreakerAnswer(state="closed", since=None, retry_at=None, blocked_until=None, failures=0, openings=0)
    return BreakerAnswer.model_validate(dict(row))


def _last_error(row: Any) -> LastError | None:
    if row is None or row["error"] is None:
        return None
    return LastError(kind=row["error_kind"], message=row["error"], at=row["error_at"])


def _webhooks(rows: Rows) -> WebhooksAnswer:
    return WebhooksAnswer.model_validate(dict(rows[0])) if rows else WebhooksAnswer(expected=0, heard=0, arriving=None)


def _in_flight(load: Rows) -> InFlight:
    counts: Counter[str] = Counter()
    for row in load:
        if row["state"] in InFlight.model_fields:
            counts[row["state"]] += row["attempts"]
    return InFlight(total=counts.total(), **counts)


def _queued(load: Rows) -> Queued:
    waiting = [row for row in load if row["state"] == "queued"]
    oldest: list[datetime] = [row["oldest_at"] for row in waiting]
    return Queued(
        total=sum(row["attempts"] for row in waiting),
        held_back=sum(row["held_back"] for row in waiting),
        oldest_at=min(oldest, default=None),
    )


def _recent(ended: Iterable[Any], seconds: list[float] | None) -> Recent:
    states: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for row in ended:
        states[row["state"]] += row["attempts"]
        if row["state"] == "failed":
            kinds[row["error_kind"] or FailureKind.UNKNOWN] += row["attempts"]
    succeeded, failed = states["succeeded"], states["failed"]
    provider_failed = sum(attempts for kind, attempts in kinds.items() if FAILURES[FailureKind(kind)].breaker)
    return Recent(
        ended=succeeded + failed + states["cancelled"],
        succeeded=succeeded,
        failed=failed,
        cancelled=states["cancelled"],
        kinds=dict(sorted(kinds.items())),
        error_rate=_share(failed, succeeded),
        provider_failed=provider_failed,
        provider_error_rate=_share(provider_failed, succeeded),
        p50_s=seconds[0] if seconds else None,
        p95_s=seconds[1] if seconds else None,
    )


def _share(failed: int, succeeded: int) -> float | None:
    return failed / (failed + succeeded) if failed + succeeded else None
