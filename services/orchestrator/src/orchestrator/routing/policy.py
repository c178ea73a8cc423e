"""Who says where jobs go: the request, else its tenant's policy, else its model's, else the default one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, ClassVar, Final, Generic, TypeVar

from pydantic import AfterValidator, ConfigDict, Field

from contracts.generation import Provider
from contracts.messages.requests import JobRequested
from contracts.messages.routing import MaxCost, RouteBy, Weights

T = TypeVar("T")


def _each_once(providers: tuple[Provider, ...]) -> tuple[Provider, ...]:
    if len(set(providers)) < len(providers):
        raise ValueError("names a provider twice")
    return providers


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What one of them says; None: nothing, so that the next one is asked."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    providers: Annotated[tuple[Provider, ...], Field(min_length=1), AfterValidator(_each_once)] | None = None
    """Only these, in this order."""
    route_by: RouteBy | None = None
    weights: Weights | None = None
    max_cost_usd: MaxCost | None = None
    same_model_only: bool | None = None

    @property
    def goes_by(self) -> RouteBy | None:
        """What the order goes by. Who names weights, or an order, wants it to go by them."""
        return self.route_by or ("weights" if self.weights else "listed" if self.providers else None)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Each field that cannot mean anything, and why."""
        if self.weights is not None and self.goes_by != "weights":
            yield "weights", f"weights mean nothing where route_by is {self.route_by}"


NOTHING: Final = Policy()


@dataclass(frozen=True, slots=True)
class Said(Generic[T]):
    """What holds, and who said so, in words that go after "as"."""

    value: T
    who: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one request at one model."""

    providers: Said[tuple[Provider, ...] | None]
    route_by: Said[RouteBy]
    weights: Mapping[Provider, float]
    max_cost_usd: Said[float | None]
    same_model_only: bool


BY_REQUEST: Final = "the request asks"
_BY_NOBODY: Final = "MUSIC_PROVIDER says"


@dataclass(frozen=True, slots=True)
class Policies:
    """What an installation says about where jobs go."""

    default: Policy = NOTHING
    models: Mapping[str, Policy] = field(default_factory=lambda: MappingProxyType({}))
    tenants: Mapping[str, Policy] = field(default_factory=lambda: MappingProxyType({}))

    def rules_for(self, request: JobRequested, model: str) -> Rules:
        """What holds for a request at a model: of each field, the word of whoever comes first."""
        layers = (
            (BY_REQUEST, _of(request)),
            (f"the policy of tenant {request.tenant} says", self.tenants.get(request.tenant, NOTHING)),
            (f"the policy of {model} says", self.models.get(model, NOTHING)),
            ("the default policy says", self.default),
        )
        return Rules(
            providers=_first(layers, lambda policy: policy.providers) or Said(None, _BY_NOBODY),
            route_by=_first(layers, lambda policy: policy.goes_by) or Said("listed", _BY_NOBODY),
            weights=_value(_first(layers, lambda policy: policy.weights)) or {},
            max_cost_usd=_first(layers, lambda policy: policy.max_cost_usd) or Said(None, _BY_NOBODY),
            same_model_only=_value(_first(layers, lambda policy: policy.same_model_only)) or False,
        )


def _of(request: JobRequested) -> Policy:
    return Policy(
        providers=request.providers,
        route_by=request.route_by,
        weights=request.weights,
        max_cost_usd=request.max_cost_usd,
        same_model_only=request.same_model_only,
    )


def _first(layers: Sequence[tuple[str, Policy]], field_of: Callable[[Policy], T | None]) -> Said[T] | None:
    said = ((field_of(policy), who) for who, policy in layers)
    return next((Said(value, who) for value, who in said if value is not None), None)


def _value(said: Said[T] | None) -> T | None:
    return said.value if said else None
