"""A route: a provider's endpoint with what it takes, what it can't do, and what it costs."""

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
    """From `min` to `max`, both included; an end that is not set is open."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    min: Number | None = None
    max: Number | None = None

    def why_not(self, what: str, value: float, unit: str) -> Iterator[str]:
        """One line if the value lies outside."""
        if self.min is not None and value < self.min:
            yield f"{what} {value:g} < {self.min:g} {unit}"
        if self.max is not None and value > self.max:
            yield f"{what} {value:g} > {self.max:g} {unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a route can't do. A request beyond them goes elsewhere whole; nothing in it is cut to fit."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    prompt_chars: Range = Range()
    duration_s: Range = Range()
    lyrics_chars: Range = Range()
    vocals: Need | None = None
    lyrics: Need | None = None
    num_images: Range = Range()

    def why_not(self, given: GenerationInput) -> Iterator[str]:
        """Every limit that the request exceeds, in words."""
        for name, rule in MODALITIES[given.modality].limits.items():
            limit = getattr(self, name)
            if isinstance(rule, Measure):
                size = rule.of(given)
                yield from () if size is None else limit.why_not(rule.said, size, rule.unit)
            elif limit is not None and (why := rule.why_not(given, limit)) is not None:
                yield why


UNLIMITED: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a provider asks for a run that succeeds, in USD."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    usd: Annotated[Number, Field(ge=0)]
    per: PriceUnit

    def of(self, given: GenerationInput) -> float:
        """The cost of this request in USD."""
        quantity = MODALITIES[given.modality].priced_per.get(self.per)
        return round(self.usd * (1 if quantity is None else quantity.of(given)), 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way to a model: a provider's endpoint."""

    provider: Provider
    model: str
    """The catalogue's name of the model this is a route of."""
    endpoint: str
    """The provider's name for it."""
    substitute: bool = False
    """The endpoint is another model, near to the one asked for."""
    takes: Mapping[str, Argument] = field(repr=False)
    limits: Limits = UNLIMITED
    price: Price | None = None
    """None: the provider publishes none that could be confirmed."""
    longest_run_s: float
    start_within_s: float
    source: str
    """The provider's own page, from which the rest was taken."""

    def why_not(self, given: GenerationInput, *, same_model_only: bool = False) -> str | None:
        """Why this route can't make what is asked, in words; None if it can."""
        another = ["another model stands in there, and same_model_only is set"]
        reasons = another if same_model_only and self.substitute else []
        return "; ".join([*reasons, *self.limits.why_not(given)]) or None

    def arguments(self, given: GenerationInput) -> dict[str, JsonValue]:
        """The provider's input as it goes on the wire."""
        values = {name: argument.value(given) for name, argument in self.takes.items()}
        return {name: value for name, value in values.items() if value is not None}

    def expected_cost_usd(self, given: GenerationInput) -> float | None:
        """What a successful run of this request should cost; None if that is not known."""
        return None if self.price is None else self.price.of(given)

    @property
    def sends(self) -> frozenset[str]:
        """The fields of the request that reach the provider."""
        return frozenset(argument.field for argument in self.takes.values() if argument.field is not None)
