"""The gauges of an adapter that are read from its ledger and its breakers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from adapter_kit.metrics import (
    AMBIGUOUS_OLDEST,
    ATTEMPTS,
    BREAKER_STATE,
    FETCHES_FAILING,
    KEY_REFUSED,
    PROVIDER_UP,
)
from chassis.postgres.polled_gauges import GaugeQuery
from contracts.failures import FailureKind
from contracts.generation import Provider

_LIVE: Final = ("queued", "submitting", "ambiguous", "running", "collecting", "cancelling")
_BREAKER_STATES: Final = {"closed": 0, "half_open": 1, "open": 2}

# The provider's own breaker has the scope of this name.
_PROVIDER: Final = "provider"
_QUERY: Final = """
SELECT jsonb_build_object(
    'breakers', (SELECT jsonb_object_agg(scope, jsonb_build_array(state, shut_for)) FROM breakers),
    'key_refused', (SELECT bool_or(key_refused) FROM health),
    'attempts', (SELECT jsonb_object_agg(state, n) FROM (
        SELECT state, count(*) AS n FROM attempts WHERE state NOT IN ('succeeded', 'failed', 'cancelled') GROUP BY state
    ) AS live),
    'ambiguous_s', (SELECT extract(epoch FROM now() - min(created_at)) FROM attempts
        WHERE state = 'ambiguous' AND state NOT IN ('succeeded', 'failed', 'cancelled')),
    'fetches_failing', (SELECT count(*) FROM attempts WHERE next_action_at IS NOT NULL AND failing = 'fetch')
)
"""


def adapter_gauges(provider: Provider) -> GaugeQuery:
    """Attempts by state, what cannot be fetched, and the breakers with what they mean, in one JSON value."""
    for gauge in (AMBIGUOUS_OLDEST, FETCHES_FAILING, KEY_REFUSED, PROVIDER_UP):
        gauge.labels(provider)
    return GaugeQuery(_QUERY, partial(_show, provider))


def _show(provider: Provider, read: Mapping[str, Any]) -> None:
    attempts = read["attempts"] or {}
    for state in _LIVE:
        ATTEMPTS.labels(provider, state).set(attempts.get(state, 0))
    AMBIGUOUS_OLDEST.labels(provider).set(max(0.0, read["ambiguous_s"] or 0.0))
    FETCHES_FAILING.labels(provider).set(read["fetches_failing"])
    breakers = {_PROVIDER: ["closed", None]} | (read["breakers"] or {})
    for scope, (state, _) in breakers.items():
        BREAKER_STATE.labels(provider, scope).set(_BREAKER_STATES[state])
    state, shut_for = breakers[_PROVIDER]
    refused = bool(read["key_refused"]) or (state != "closed" and shut_for == FailureKind.UNAUTHORIZED)
    KEY_REFUSED.labels(provider).set(refused)
    PROVIDER_UP.labels(provider).set(not refused and state != "open")
