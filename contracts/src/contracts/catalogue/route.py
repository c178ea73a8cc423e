"""A route: a provider's endpoint with its arguments, limits and price."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, JsonValue

from contracts.catalogue.mapping import Argument, Number
from contracts.generation import GenerationInput, Provider
from contracts.modalities.registry import MODALITIES
from contracts.modalities.spec import Measure, PriceUnit

Need = Literal["required", "forbidden"]


@dataclass(frozen=True, slots=True)
class Range:
    """From `min` to `max`, both included; None is no limit."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    min: Number | None = None
    max: Number | None = None

    def why_not(self, what: str, value: float, unit: str) -> Iterator[str]:
        """A description of the limit that the value exceeds, if it does."""
        if self.min is not None and value < self.min:
            yield f"{what} {value:g} < {self.min:g} {unit}"
        if self.max is not None and value > self.max:
            yield f"{what} {value:g} > {self.max:g} {unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a route. A request that exceeds them goes to another route."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    prompt_chars: Range = Range()
    duration_s: Range = Range()
    lyrics_chars: Range = Range()
    vocals: Need | None = None
    lyrics: Need | None = None
    num_images: Range = Range()

    def why_not(self, given: GenerationInput) -> Iterator[str]:
        """A description of each limit that the request exceeds."""
        for name, rule in MODALITIES[given.modality].limits.items():
            limit = getattr(self, name)
            if isinstance(rule, Measure):
                size = rule.of(given)
                yield from () if size is None else limit.why_not(rule.label, size, rule.unit)
            elif limit is not None and (why := rule.why_not(given, limit)) is not None:
                yield why


UNLIMITED: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of a run that succeeds, in USD."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    usd: Annotated[Number, Field(ge=0)]
    per: PriceUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A provider's endpoint that serves a model."""

    provider: Provider
    model: str
    """The catalogue's name of the model."""
    endpoint: str
    """The provider's name of the endpoint."""
    substitute: bool = False
    """The endpoint runs another model, similar to the requested one."""
    takes: Mapping[str, Argument] = field(repr=False)
    limits: Limits = UNLIMITED
    price: Price | None = None
    """None: the provider publishes no price that could be confirmed."""
    longest_run_s: float
    start_within_s: float
    source: str
    """The URL of the provider's page that documents the other fields."""

    def why_not(self, given: GenerationInput, *, same_model_only: bool = False) -> str | None:
        """Why this route cannot serve the request; None if it can."""
        another = ["another model stands in there, and same_model_only is set"]
        reasons = another if same_model_only and self.substitute else []
        return "; ".join([*reasons, *self.limits.why_not(given)]) or None

    def arguments(self, given: GenerationInput) -> dict[str, JsonValue]:
        """The provider's input as it is sent; arguments without a value are left out."""
        values = {name: argument.value(given) for name, argument in self.takes.items()}
        return {name: value for name, value in values.items() if value is not None}

    def expected_cost_usd(self, given: GenerationInput) -> float | None:
        """The expected cost of a successful run of this request, in USD, to six decimals; None if it is not known."""
        if self.price is None:
            return None
        quantity = MODALITIES[given.modality].priced_per.get(self.price.per)
        units = 1 if quantity is None else quantity.of(self._sent(quantity.field, given))
        return round(self.price.usd * units, 6)

    def _sent(self, name: str, given: GenerationInput) -> float:
        """The amount of a field that the provider is asked for, in the field's unit."""
        requested: float = getattr(given, name)
        return max((each.amount(requested) for each in self.takes.values() if each.field == name), default=requested)

    @property
    def sends(self) -> frozenset[str]:
        """The fields of the input that are sent to the provider."""
        return frozenset(argument.field for argument in self.takes.values() if argument.field is not None)
