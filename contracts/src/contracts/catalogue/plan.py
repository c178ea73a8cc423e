"""Where a request can go: the catalogue's models, and the choice among their routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, get_args

from contracts.catalogue.route import Route
from contracts.generation import GenerationInput, Modality, MusicInput, Provider
from contracts.jobs import SkippedRoute

Ask = Literal["instrumental", "vocals_with_lyrics", "vocals_without_lyrics", "image"]
ASKS: Final[tuple[Ask, ...]] = get_args(Ask)

OPTIONAL: Final[dict[Modality, tuple[str, ...]]] = {"music": ("duration_s", "style_strength"), "image": ("seed",)}
"""Fields that a route may do without; all others it sends, or limits."""


class UnknownModel(Exception):
    """The model asked for is not in the catalogue, or makes something else; the message is fit for the client."""


@dataclass(frozen=True, slots=True)
class Model:
    """What clients call by one name, and the routes to it in the catalogue's order."""

    name: str
    title: str
    modality: Modality
    routes: tuple[Route, ...]

    def routes_by(self, providers: Sequence[Provider] | None, first: Provider) -> Iterator[Route]:
        """Its routes in the order to try: by `providers`, and only those, or else `first` before the others."""
        by_provider = {route.provider: route for route in self.routes}
        for provider in dict.fromkeys((first, *by_provider) if providers is None else providers):
            if provider in by_provider:
                yield by_provider[provider]

    def ignored_by(self, route: Route) -> tuple[str, ...]:
        """Fields of a request that make no difference on this route, so that a client can be told."""
        return tuple(name for name in OPTIONAL[self.modality] if name not in route.sends)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a request goes, in order, and where it does not, with why. No routes: nowhere."""

    model: str | None
    """None: no model of the default order can do it."""
    routes: tuple[Route, ...]
    skipped: tuple[SkippedRoute, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every model, and which of them to take for a request that names none."""

    models: Mapping[str, Model]
    defaults: Mapping[Ask, tuple[str, ...]]

    def plan(
        self, given: GenerationInput, model: str | None, providers: Sequence[Provider] | None, first: Provider
    ) -> Plan:
        """The routes for a request. Raises UnknownModel."""
        names = self.defaults[ask_of(given)] if model is None else (self._checked(model, given.modality),)
        skipped: list[SkippedRoute] = []
        for name in names:
            routes: list[Route] = []
            for route in self.models[name].routes_by(providers, first):
                reason = route.why_not(given)
                if reason is None:
                    routes.append(route)
                else:
                    skipped.append(_skipped(route, reason))
            if routes:
                return Plan(name, tuple(routes), tuple(skipped))
        return Plan(model, (), tuple(skipped))

    def _checked(self, name: str, modality: Modality) -> str:
        model = self.models.get(name)
        if model is None:
            of_kind = [each.name for each in self.models.values() if each.modality == modality]
            near = get_close_matches(name[:200], of_kind, n=3, cutoff=0.6) or of_kind
            raise UnknownModel(f"no model {name[:200]!r} in the catalogue; there is {', '.join(near)}")
        if model.modality != modality:
            raise UnknownModel(f"{name!r} makes {model.modality}, not {modality}")
        return name


def ask_of(given: GenerationInput) -> Ask:
    """Which of the default orders a request falls under."""
    if not isinstance(given, MusicInput):
        return "image"
    if not given.has_vocals:
        return "instrumental"
    return "vocals_without_lyrics" if given.lyrics is None else "vocals_with_lyrics"


def _skipped(route: Route, reason: str) -> SkippedRoute:
    return SkippedRoute(provider=route.provider, model=route.model, endpoint=route.endpoint, reason=reason[:500])
