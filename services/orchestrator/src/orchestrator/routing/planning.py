"""The plan for a request: the routes that can serve it, in the order of the rules, and the reasons. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from contracts.catalogue import Catalogue, Model, Route, sifted, why_not_enabled
from contracts.generation import GenerationInput, Provider
from contracts.messages.jobs import SkippedRoute
from contracts.messages.requests import JobRequested
from contracts.messages.wording import in_dollars
from orchestrator.decisions.job import Candidate, candidate_of
from orchestrator.decisions.remaining_candidates import over_ceiling
from orchestrator.routing.ordering import Latencies, in_order
from orchestrator.routing.policy import BY_REQUEST, Policies, Rules


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """The candidates of a job in the order to try, and the skipped routes. No candidates: it cannot be served."""

    candidates: tuple[Candidate, ...] = ()
    skipped: tuple[SkippedRoute, ...] = ()
    because: str | None = None
    """Why the candidates are in this order."""
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Routing:
    """The routing configuration of an installation: its catalogue, its policies, and its providers."""

    catalogue: Catalogue
    policies: Policies
    first: Provider
    enabled: tuple[Provider, ...]

    def plan(self, request: JobRequested, latencies: Latencies) -> RoutePlan:
        """The plan for a request, with the first model that can serve it within its ceiling. Raises UnknownModel."""
        skipped: tuple[SkippedRoute, ...] = ()
        for model in self.catalogue.models_for(request.input, request.model):
            rules = self.policies.rules_for(request, model.name)
            fit, unfit = sifted(_candidates(model, rules, self.first), _Objection(request.input, rules, self.enabled))
            skipped += unfit
            if fit:
                routes, why = in_order(fit, rules, request.input, request.job_id, latencies)
                candidates = tuple(candidate_of(route, request.input) for route in routes)
                return RoutePlan(candidates, skipped, f"{why}{_ceiling(rules)}"[:1000], rules.max_cost_usd.value)
        return RoutePlan(skipped=skipped)


def _ceiling(rules: Rules) -> str:
    ceiling = rules.max_cost_usd
    return "" if ceiling.value is None else f"; at most {in_dollars(ceiling.value)}, as {ceiling.source}"


def _candidates(model: Model, rules: Rules, first: Provider) -> Iterator[Route]:
    yield from model.routes_by(rules.providers.value, first)
    # A client that names providers excludes the others knowingly; those that a policy excludes are listed as skipped.
    if rules.providers.value is not None and rules.providers.source != BY_REQUEST:
        yield from (route for route in model.routes if route.provider not in rules.providers.value)


@dataclass(frozen=True, slots=True)
class _Objection:
    """Called with a route: why it cannot be taken, None if it can."""

    given: GenerationInput
    rules: Rules
    enabled: tuple[Provider, ...]

    def __call__(self, route: Route) -> str | None:
        allowed = self.rules.providers
        if allowed.value is not None and route.provider not in allowed.value:
            return f"left out, as {allowed.source}"
        if (disabled := why_not_enabled(route, self.enabled)) is not None:
            return disabled
        unable = route.why_not(self.given, same_model_only=self.rules.same_model_only)
        over = over_ceiling(route.expected_cost_usd(self.given), self.rules.max_cost_usd.value)
        return "; ".join(filter(None, (unable, over))) or None
