"""The routing rules of a request. Each field comes from the request, else from the policy of its tenant, else from that
of its model, else from the default policy. Pure."""

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
    """The routing options of one source; for a field that is None, the next source decides."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    providers: Annotated[tuple[Provider, ...], Field(min_length=1), AfterValidator(_each_once)] | None = None
    """Only these, in this order."""
    route_by: RouteBy | None = None
    weights: Weights | None = None
    max_cost_usd: MaxCost | None = None
    same_model_only: bool | None = None

    @property
    def effective_route_by(self) -> RouteBy | None:
        """`route_by`; if it is not set, weights or a list of providers imply it."""
        return self.route_by or ("weights" if self.weights else "listed" if self.providers else None)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Each field that has no effect, and why."""
        if self.weights is not None and self.effective_route_by != "weights":
            yield "weights", f"weights mean nothing where route_by is {self.route_by}"


NO_POLICY: Final = Policy()


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """The value of one routing option, and its source: a clause for after "as", such as "the default policy says"."""

    value: T
    source: str


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for one request with one model."""

    providers: Option[tuple[Provider, ...] | None]
    route_by: Option[RouteBy]
    weights: Mapping[Provider, float]
    max_cost_usd: Option[float | None]
    same_model_only: bool


BY_REQUEST: Final = "the request asks"
_BY_DEFAULT: Final = "MUSIC_PROVIDER says"


@dataclass(frozen=True, slots=True)
class Policies:
    """The routing policies of an installation."""

    default: Policy = NO_POLICY
    models: Mapping[str, Policy] = field(default_factory=lambda: MappingProxyType({}))
    tenants: Mapping[str, Policy] = field(default_factory=lambda: MappingProxyType({}))

    def rules_for(self, request: JobRequested, model: str) -> Rules:
        """The rules for a request with a model: for each option, the value of the first source that has one."""
        layers = (
            (BY_REQUEST, _policy_of(request)),
            (f"the policy of tenant {request.tenant} says", self.tenants.get(request.tenant, NO_POLICY)),
            (f"the policy of {model} says", self.models.get(model, NO_POLICY)),
            ("the default policy says", self.default),
        )
        return Rules(
            providers=_first(layers, lambda policy: policy.providers) or Option(None, _BY_DEFAULT),
            route_by=_first(layers, lambda policy: policy.effective_route_by) or Option("listed", _BY_DEFAULT),
            weights=_value(_first(layers, lambda policy: policy.weights)) or {},
            max_cost_usd=_first(layers, lambda policy: policy.max_cost_usd) or Option(None, _BY_DEFAULT),
            same_model_only=_value(_first(layers, lambda policy: policy.same_model_only)) or False,
        )

    def may_go_by_latency(self, request: JobRequested) -> bool:
        """Whether the rules for a request may put the fastest route first, with any model."""
        tenant = self.tenants.get(request.tenant, NO_POLICY)
        layers = (_policy_of(request), tenant, self.default, *self.models.values())
        return any(policy.route_by == "fastest" for policy in layers)


def _policy_of(request: JobRequested) -> Policy:
    return Policy(
        providers=request.providers,
        route_by=request.route_by,
        weights=request.weights,
        max_cost_usd=request.max_cost_usd,
        same_model_only=request.same_model_only,
    )


def _first(layers: Sequence[tuple[str, Policy]], field_of: Callable[[Policy], T | None]) -> Option[T] | None:
    values = ((field_of(policy), source) for source, policy in layers)
    return next((Option(value, source) for value, source in values if value is not None), None)


def _value(option: Option[T] | None) -> T | None:
    return option.value if option else None
