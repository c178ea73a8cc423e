"""The order in which a request's routes are tried, and the text that explains it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import inf, log

from contracts.catalogue import Route
from contracts.generation import GenerationInput, Provider
from contracts.messages.wording import in_dollars
from orchestrator.routing.policy import Rules

Routes = tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Latency:
    """The recent mean duration of a route's runs, from the provider's acceptance to the stored outputs, in seconds."""

    mean_s: float
    runs: int


Latencies = Mapping[tuple[Provider, str], Latency]
"""The latency by provider and endpoint; without those that have not been measured."""


def in_order(
    listed: Sequence[Route], rules: Rules, given: GenerationInput, job_id: str, latencies: Latencies
) -> tuple[Routes, str]:
    """The routes in the order to try, and the reason. Routes that compare equal keep the listed order."""
    match rules.route_by.value:
        case "listed":
            return tuple(listed), f"the listed order, as {rules.providers.source}"
        case "weights":
            routes, why = _weighted(listed, rules.weights, job_id)
        case "cheapest":
            routes, why = _cheapest(listed, given)
        case "fastest":
            routes, why = _fastest(listed, latencies)
    return routes, f"{why}, as {rules.route_by.source}"


def _weighted(listed: Sequence[Route], weights: Mapping[Provider, float], job_id: str) -> tuple[Routes, str]:
    weighted = [route for route in listed if weights.get(route.provider)]
    if not weighted:
        return tuple(listed), "by weights, but none of these has one: the listed order"
    routes = tuple(sorted(listed, key=lambda route: _sort_key(job_id, route.provider, weights.get(route.provider, 0))))
    shares = ", ".join(f"{route.provider} {weights[route.provider]:g}" for route in weighted)
    return routes, f"by weights {shares}: {routes[0].provider} was drawn"


def _sort_key(job_id: str, provider: Provider, weight: float) -> float:
    # Weighted sampling without replacement by exponential keys (Efraimidis and Spirakis, 2006,
    # https://doi.org/10.1016/j.ipl.2005.11.003). The job's id is the seed, so that a replay draws the same order.
    random = int.from_bytes(sha256(f"{job_id}|{provider}".encode()).digest()[:6])
    return -log((random + 0.5) / 2**48) / weight if weight else inf


def _cheapest(listed: Sequence[Route], given: GenerationInput) -> tuple[Routes, str]:
    priced = sorted(
        ((route, route.expected_cost_usd(given)) for route in listed), key=lambda each: _or_infinity(each[1])
    )
    text = ""
    for n, (route, price) in enumerate(priced):
        separator = "" if n == 0 else " and " if price == priced[n - 1][1] else " before "
        text += f"{separator}{route.provider} {'of unknown price' if price is None else in_dollars(price)}"
    return tuple(route for route, _ in priced), f"cheapest first: {text}"


def _fastest(listed: Sequence[Route], latencies: Latencies) -> tuple[Routes, str]:
    timed = [(route, latencies.get((route.provider, route.endpoint))) for route in listed]
    timed.sort(key=lambda each: _or_infinity(each[1].mean_s if each[1] else None))
    if all(latency is None for _, latency in timed):
        return tuple(listed), "fastest first, but none of these was timed yet: the listed order"
    described = (f"{route.provider} {_described(latency, first=n == 0)}" for n, (route, latency) in enumerate(timed))
    return tuple(route for route, _ in timed), f"fastest first: {', '.join(described)}"


def _described(latency: Latency | None, *, first: bool) -> str:
    if latency is None:
        return "not timed yet"
    runs = f" run{'' if latency.runs == 1 else 's'}" if first else ""
    return f"{latency.mean_s:.{0 if latency.mean_s >= 10 else 1}f} s over {latency.runs}{runs}"


def _or_infinity(value: float | None) -> float:
    return inf if value is None else value
