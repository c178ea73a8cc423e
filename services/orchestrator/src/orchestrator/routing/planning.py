"""Where a request may go: the models that can do it, their routes by the rules that hold, and the reasons. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from contracts.catalogue import Catalogue, Model, Route, sifted
from contracts.generation import GenerationInput, Provider
from contracts.messages.jobs import SkippedRoute
from contracts.messages.requests import JobRequested
from contracts.messages.wording import in_dollars
from orchestrator.decisions.job import Candidate, candidate_of
from orchestrator.decisions.remaining_candidates import too_dear
from orchestrator.routing.ordering import Paces, in_order
from orchestrator.routing.policy import BY_REQUEST, Policies, Rules


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """Where a job may go, in order, where it may not, and why."""

    candidates: tuple[Candidate, ...] = ()
    skipped: tuple[SkippedRoute, ...] = ()
    because: str | None = None
    """Why the order is this one, in words."""
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Routing:
    """What an installation routes by: its catalogue, its policies, and the provider to try first."""

    catalogue: Catalogue
    policies: Policies
    first: Provider

    def plan(self, request: JobRequested, paces: Paces) -> RoutePlan:
        """The plan for a request, at the first model that can do it for what it may cost. Raises UnknownModel."""
        skipped: tuple[SkippedRoute, ...] = ()
        for model in self.catalogue.models_for(request.input, request.model):
            rules = self.policies.rules_for(request, model.name)
            fit, unfit = sifted(_candidates(model, rules, self.first), _Bar(request.input, rules))
            skipped += unfit
            if fit:
                routes, why = in_order(fit, rules, request.input, request.job_id, paces)
                candidates = tuple(candidate_of(route, request.input) for route in routes)
                return RoutePlan(candidates, skipped, f"{why}{_ceiling(rules)}"[:1000], rules.max_cost_usd.value)
        return RoutePlan(skipped=skipped)


def _ceiling(rules: Rules) -> str:
    most = rules.max_cost_usd
    return "" if most.value is None else f"; at most {in_dollars(most.value)}, as {most.who}"


def _candidates(model: Model, rules: Rules, first: Provider) -> Iterator[Route]:
    yield from model.routes_by(rules.providers.value, first)
    # Whoever names providers knows whom they left out; a policy's choice has to be told.
    if rules.providers.value is not None and rules.providers.who != BY_REQUEST:
        yield from (route for route in model.routes if route.provider not in rules.providers.value)


@dataclass(frozen=True, slots=True)
class _Bar:
    """What speaks against a route."""

    given: GenerationInput
    rules: Rules

    def __call__(self, route: Route) -> str | None:
        allowed = self.rules.providers
        if allowed.value is not None and route.provider not in allowed.value:
            return f"left out, as {allowed.who}"
        unable = route.why_not(self.given, same_model_only=self.rules.same_model_only)
        dear = too_dear(route.expected_cost_usd(self.given), self.rules.max_cost_usd.value)
        return "; ".join(filter(None, (unable, dear))) or None
