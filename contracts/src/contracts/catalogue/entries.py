"""The schema of `catalogue/models.yaml`, and the checks that the schema cannot express."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final

from pydantic import ConfigDict, Field

from contracts.catalogue import yaml_lines
from contracts.catalogue.mapping import Argument, Number
from contracts.catalogue.plan import ASKS
from contracts.catalogue.reporting import Located
from contracts.catalogue.route import UNLIMITED, Limits, Price, Range, Route
from contracts.generation import Ask, Modality, Provider
from contracts.modalities.registry import MODALITIES
from contracts.modalities.spec import Feature, ModalitySpec
from contracts.providers.registry import PROVIDERS

_NAMES: Final = "|".join(MODALITIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEntry:
    """A route in the file."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    endpoint: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)+(:[\w.-]+)?$", max_length=200)]
    substitute: bool = False
    input: dict[str, Argument]
    limits: Limits = UNLIMITED
    price: Price | None = None
    longest_run_s: Annotated[Number, Field(gt=0, le=86_400)]
    start_within_s: Annotated[Number, Field(gt=1, le=86_400)]
    source: Annotated[str, Field(pattern=r"^https://\S+$")]

    def as_route(self, provider: Provider, model: str) -> Route:
        """The route that this entry describes."""
        return Route(
            provider=provider,
            model=model,
            endpoint=self.endpoint,
            substitute=self.substitute,
            takes=MappingProxyType(self.input),
            limits=self.limits,
            price=self.price,
            longest_run_s=self.longest_run_s,
            start_within_s=self.start_within_s,
            source=self.source,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model in the file."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    title: Annotated[str, Field(min_length=1)]
    routes: Annotated[dict[Provider, RouteEntry], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueFile:
    """The whole file. Its models are validated one by one, so that an error in one does not hide those in others."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    models: Annotated[dict[Annotated[str, Field(pattern=rf"^({_NAMES})/[a-z0-9][a-z0-9.-]*$")], Any], Field()]
    defaults: dict[Ask, tuple[str, ...]] = field(default_factory=dict)


def modality_of(name: str) -> Modality | None:
    """The modality of a model, which is the part of its name before the slash; None if there is no such modality."""
    return next((modality for modality in MODALITIES if modality == name.partition("/")[0]), None)


def route_problems(
    where: yaml_lines.Path, provider: Provider, modality: Modality, route: RouteEntry
) -> Iterator[Located]:
    """The parts of the route at `where` that do not fit its modality or its provider."""
    if why := _version_problem(route.endpoint, provider):
        yield (*where, "endpoint"), f"endpoint: {why}"
    for name, argument in route.input.items():
        for problem in argument.problems(modality):
            yield (*where, "input", name), f"{name}: {problem}"
        if why := PROVIDERS[provider].never_sent.get(name):
            yield (*where, "input", name), f"{name} is never sent to {provider}: it {why}"
    limited = {each.name for each in fields(Limits) if getattr(route.limits, each.name) not in (None, Range())}
    spec = MODALITIES[modality]
    for name in sorted(limited - spec.limits.keys()):
        yield (*where, "limits", name), f"the limit {name} does not apply to {modality}"
    if route.price is not None and route.price.per not in spec.priced_per:
        yield (*where, "price", "per"), f"{modality} has no price per {route.price.per}"
    for name in spec.must_matter:
        if name not in _covered(route, spec):
            yield where, f"{name} would be silently ignored: 'input' has to send it or 'limits' to exclude it"


def _version_problem(endpoint: str, provider: Provider) -> str | None:
    """Why the provider has no such version; None if it may have it, or if the endpoint names none."""
    _, colon, version = endpoint.partition(":")
    pattern = PROVIDERS[provider].version_pattern
    if not colon:
        return None
    if pattern is None:
        return f"{provider} has no versions, so no colon may be in it"
    return None if re.fullmatch(pattern, version) else f"the version after the colon does not match {pattern}"


def _covered(route: RouteEntry, spec: ModalitySpec) -> set[str | None]:
    """The fields that the route sends, or that its limits restrict to a single value."""
    covered = {argument.field for argument in route.input.values()}
    for name, rule in spec.limits.items():
        need = getattr(route.limits, name)
        # A required text may have any value; a required boolean can only be true.
        boolean = isinstance(rule, Feature) and spec.input.model_fields[rule.field].annotation is bool
        if need == "forbidden" or (need == "required" and boolean):
            covered.add(rule.field)
    return covered


def default_problems(file: CatalogueFile) -> Iterator[Located]:
    """The kinds of request without a default model, and the defaults that name a missing or unsuitable model."""
    for ask in ASKS:
        if not file.defaults.get(ask):
            yield ("defaults", ask), f"defaults: no model for {ask}"
        for index, name in enumerate(file.defaults.get(ask, ())):
            where = ("defaults", ask, index)
            if name not in file.models:
                yield where, f"defaults: no model {name!r} in this file"
            elif (modality := modality_of(name)) is None or ask not in MODALITIES[modality].asks:
                yield where, f"defaults: {name!r} is not for {ask}"
