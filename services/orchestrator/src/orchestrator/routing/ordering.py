"""In which order a request's routes are tried, and the words that say why. Pure."""

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
class Pace:
    """How long runs of a route have taken lately: from the provider's yes to the stored outputs, in seconds."""

    mean_s: float
    runs: int


Paces = Mapping[tuple[Provider, str], Pace]
"""By provider and endpoint; a route that is not in it was never timed."""


def in_order(
    listed: Sequence[Route], rules: Rules, given: GenerationInput, job_id: str, paces: Paces
) -> tuple[Routes, str]:
    """The routes in the order to try, and why it is this one. What makes no difference leaves the listed order."""
    match rules.route_by.value:
        case "listed":
            return tuple(listed), f"the listed order, as {rules.providers.who}"
        case "weights":
            routes, why = _drawn(listed, rules.weights, job_id)
        case "cheapest":
            routes, why = _cheapest(listed, given)
        case "fastest":
            routes, why = _fastest(listed, paces)
    return routes, f"{why}, as {rules.route_by.who}"


def _drawn(listed: Sequence[Route], weights: Mapping[Provider, float], job_id: str) -> tuple[Routes, str]:
    counting = [route for route in listed if weights.get(route.provider)]
    if not counting:
        return tuple(listed), "by weights, but none of these has one: the listed order"
    routes = tuple(sorted(listed, key=lambda route: _turn(job_id, route.provider, weights.get(route.provider, 0))))
    shares = ", ".join(f"{route.provider} {weights[route.provider]:g}" for route in counting)
    return routes, f"by weights {shares}: {routes[0].provider} was drawn"


def _turn(job_id: str, provider: Provider, weight: float) -> float:
    # The waiting time of a random clock that ticks `weight` times as fast: whoever ticks first is drawn. So each is
    # first in proportion to its weight, and the rest follow as if drawn again. The dice are the job's id, so that a
    # replay throws the same.
    dice = int.from_bytes(sha256(f"{job_id}|{provider}".encode()).digest()[:6])
    return -log((dice + 0.5) / 2**48) / weight if weight else inf


def _cheapest(listed: Sequence[Route], given: GenerationInput) -> tuple[Routes, str]:
    priced = sorted(((route, route.expected_cost_usd(given)) for route in listed), key=lambda each: _last(each[1]))
    words = ""
    for n, (route, price) in enumerate(priced):
        glue = "" if n == 0 else " and " if price == priced[n - 1][1] else " before "
        words += f"{glue}{route.provider} {'of unknown price' if price is None else in_dollars(price)}"
    return tuple(route for route, _ in priced), f"cheapest first: {words}"


def _fastest(listed: Sequence[Route], paces: Paces) -> tuple[Routes, str]:
    timed = [(route, paces.get((route.provider, route.endpoint))) for route in listed]
    timed.sort(key=lambda each: _last(each[1].mean_s if each[1] else None))
    if all(pace is None for _, pace in timed):
        return tuple(listed), "fastest first, but none of these was timed yet: the listed order"
    words = ", ".join(f"{route.provider} {_paced(pace, first=n == 0)}" for n, (route, pace) in enumerate(timed))
    return tuple(route for route, _ in timed), f"fastest first: {words}"


def _paced(pace: Pace | None, *, first: bool) -> str:
    if pace is None:
        return "not timed yet"
    runs = f" run{'' if pace.runs == 1 else 's'}" if first else ""
    return f"{pace.mean_s:.{0 if pace.mean_s >= 10 else 1}f} s over {pace.runs}{runs}"


def _last(known: float | None) -> float:
    return inf if known is None else known
