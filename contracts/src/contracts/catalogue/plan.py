"""The catalogue's models, and the choice among their routes for a request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, get_args

from contracts.catalogue.route import Route
from contracts.generation import Ask, GenerationInput, Modality, Provider
from contracts.messages.jobs import SkippedRoute
from contracts.modalities.registry import MODALITIES
from contracts.providers.registry import PROVIDERS

ASKS: Final[tuple[Ask, ...]] = get_args(Ask)


class UnknownModel(Exception):
    """The requested model is not in the catalogue or is of another modality; the message may be shown to clients."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model, under the name that clients use, with its routes in the catalogue's order."""

    name: str
    title: str
    modality: Modality
    routes: tuple[Route, ...]

    def routes_by(self, providers: Sequence[Provider] | None, first: Provider) -> Iterator[Route]:
        """Its routes in the order to try: those of `providers` only; if None, all, with `first` at the front."""
        by_provider = {route.provider: route for route in self.routes}
        for provider in dict.fromkeys((first, *by_provider) if providers is None else providers):
            if provider in by_provider:
                yield by_provider[provider]

    def ignored_by(self, route: Route) -> tuple[str, ...]:
        """The optional fields of a request that have no effect on this route."""
        return tuple(name for name in MODALITIES[self.modality].optional if name not in route.sends)


@dataclass(frozen=True, slots=True)
class Plan:
    """The routes for a request, in the order to try, and the skipped ones. No routes: it cannot be served."""

    model: str | None
    """None: no default model can serve the request."""
    routes: tuple[Route, ...]
    skipped: tuple[SkippedRoute, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every model, and the default models, in order, for requests that name none."""

    models: Mapping[str, Model]
    defaults: Mapping[Ask, tuple[str, ...]]

    def plan(
        self,
        given: GenerationInput,
        model: str | None,
        providers: Sequence[Provider] | None,
        first: Provider,
        *,
        enabled: Collection[Provider] = PROVIDERS.keys(),
        same_model_only: bool = False,
    ) -> Plan:
        """The routes for a request, at enabled providers, without regard to routing policies. Raises UnknownModel."""

        def why_not(route: Route) -> str | None:
            return why_not_enabled(route, enabled) or route.why_not(given, same_model_only=same_model_only)

        skipped: tuple[SkippedRoute, ...] = ()
        for each in self.models_for(given, model):
            routes, unfit = sifted(each.routes_by(providers, first), why_not)
            skipped += unfit
            if routes:
                return Plan(each.name, routes, skipped)
        return Plan(model, (), skipped)

    def models_for(self, given: GenerationInput, model: str | None) -> tuple[Model, ...]:
        """The models to consider for a request, in order: the one it names, or the defaults. Raises UnknownModel."""
        names = self.defaults[ask_of(given)] if model is None else (self._checked(model, given.modality),)
        return tuple(self.models[name] for name in names)

    def _checked(self, name: str, modality: Modality) -> str:
        model = self.models.get(name)
        if model is None:
            of_kind = [each.name for each in self.models.values() if each.modality == modality]
            near = get_close_matches(name[:200], of_kind, n=3, cutoff=0.6) or of_kind
            raise UnknownModel(f"no model {name[:200]!r} in the catalogue; there is {', '.join(near)}")
        if model.modality != modality:
            raise UnknownModel(f"{name!r} makes {model.modality}, not {modality}")
        return name


def why_not_enabled(route: Route, enabled: Collection[Provider]) -> str | None:
    """Why a route cannot be taken at all, if its provider is not enabled; None if it is."""
    return None if route.provider in enabled else "not enabled (SEGUE_PROVIDERS)"


def ask_of(given: GenerationInput) -> Ask:
    """The kind of a request: a key of `Catalogue.defaults`."""
    return MODALITIES[given.modality].ask_of(given)


def sifted(
    routes: Iterable[Route], why_not: Callable[[Route], str | None]
) -> tuple[tuple[Route, ...], tuple[SkippedRoute, ...]]:
    """The routes for which `why_not` returns None, and the others as skipped, with the reasons that it returns."""
    reasons = [(route, why_not(route)) for route in routes]
    fit = tuple(route for route, reason in reasons if reason is None)
    return fit, tuple(skipped(route, reason) for route, reason in reasons if reason is not None)


def skipped(route: Route, reason: str) -> SkippedRoute:
    """The record of a route that is not tried; the reason is cut to 500 characters."""
    return SkippedRoute(provider=route.provider, model=route.model, endpoint=route.endpoint, reason=reason[:500])
