"""`/api/providers`: how each provider and each of its endpoints does, in the long form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter

from contracts.failures import FAILURES, FailureKind
from contracts.generation import Provider
from contracts.providers.registry import PROVIDERS
from gateway.context import GatewayDep
from gateway.http.problem_document import documented
from gateway.queries.provider_status import WINDOW_S, News, Rows, Seen, verdict
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
async def list_providers(here: GatewayDep) -> ProviderList:
    """How each provider does: breaker, last error, error rates, latency, what is in flight and what waits.

    True to within a second, and free: it is read from what the adapters and the log-sink have written.
    """
    return overview(await here.providers.read())


def overview(seen: Seen) -> ProviderList:
    """What is known of the providers, as it is told to clients."""
    return ProviderList(
        as_of=seen.as_of, window_s=WINDOW_S, providers=[_provider(seen, provider) for provider in PROVIDERS]
    )


def _provider(seen: Seen, provider: Provider) -> ProviderAnswer:
    told = seen.told[provider]
    health = told.health[0] if told.health else None
    probe = told.probe[0] if told.probe else None
    news = None if health is None else News(health["status"] == "ok", health["error"], health["checked_at"])
    wrong = verdict(provider, news, seen.as_of)
    ends = [row for row in seen.ends if row["provider"] == provider]
    pace = {row["endpoint"]: row["seconds"] for row in seen.pace if row["provider"] == provider}
    gates = {row["scope"]: row for row in told.gates}
    endpoints = {row["endpoint"] for row in (*told.load, *ends)} | gates.keys() - {""}
    return ProviderAnswer(
        provider=provider,
        status="fail" if wrong else "ok",
        error=wrong,
        since=None if health is None else health["since"],
        breaker=_breaker(gates.get("")),
        last_error=_last_error(gates.get("")),
        probe=None if probe is None else ProbeAnswer.model_validate(dict(probe)),
        webhooks=_webhooks(told.callbacks),
        caps=CapsAnswer() if probe is None else CapsAnswer.model_validate(dict(probe)),
        in_flight=_in_flight(told.load),
        queued=_queued(told.load),
        late=sum(row["attempts"] for row in told.load if row["state"] in ("succeeded", "failed", "cancelled")),
        recent=_recent(ends, pace.get(None)),
        endpoints=[
            _endpoint(
                name,
                gates.get(name),
                [row for row in told.load if row["endpoint"] == name],
                _recent([row for row in ends if row["endpoint"] == name], pace.get(name)),
            )
            for name in sorted(endpoints)
        ],
    )


def _endpoint(name: str, gate: Any, load: Rows, recent: Recent) -> EndpointAnswer:
    breaker = _breaker(gate)
    return EndpointAnswer(
        endpoint=name,
        status="ok" if breaker.state == "closed" else "fail",
        breaker=breaker,
        last_error=_last_error(gate),
        in_flight=_in_flight(load),
        queued=_queued(load),
        recent=recent,
    )


def _breaker(gate: Any) -> BreakerAnswer:
    if gate is None:
        return BreakerAnswer(state="closed", since=None, retry_at=None, blocked_until=None, failures=0, openings=0)
    return BreakerAnswer.model_validate(dict(gate))


def _last_error(gate: Any) -> LastError | None:
    if gate is None or gate["error"] is None:
        return None
    return LastError(kind=gate["error_kind"], message=gate["error"], at=gate["error_at"])


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


def _recent(ends: Iterable[Any], seconds: list[float] | None) -> Recent:
    states: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for row in ends:
        states[row["state"]] += row["attempts"]
        if row["state"] == "failed":
            kinds[row["error_kind"] or FailureKind.UNKNOWN] += row["attempts"]
    succeeded, failed = states["succeeded"], states["failed"]
    speaking = sum(attempts for kind, attempts in kinds.items() if FAILURES[FailureKind(kind)].breaker)
    return Recent(
        ended=succeeded + failed + states["cancelled"],
        succeeded=succeeded,
        failed=failed,
        cancelled=states["cancelled"],
        kinds=dict(sorted(kinds.items())),
        error_rate=_share(failed, succeeded),
        provider_failed=speaking,
        provider_error_rate=_share(speaking, succeeded),
        p50_s=seconds[0] if seconds else None,
        p95_s=seconds[1] if seconds else None,
    )


def _share(failed: int, succeeded: int) -> float | None:
    return failed / (failed + succeeded) if failed + succeeded else None
