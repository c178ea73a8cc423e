"""How a provider's argument is computed from the input. The steps are: from, const, choose, scale, clamp, round."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, ClassVar, Literal, Union, get_args, get_origin

from pydantic import AllowInfNan, ConfigDict, Field, JsonValue, Strict

from contracts.generation import GenerationInput, Modality
from contracts.modalities.registry import MODALITIES

Number = Annotated[float, Strict(), AllowInfNan(False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a provider's endpoint: a constant, or a field of the input to which steps are applied."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    const: JsonValue = None
    field: Annotated[str | None, Field(alias="from")] = None
    scale: tuple[Number, Number] | None = None
    """Linear: 0 is mapped to the first number, 1 to the second; values outside 0 to 1 are extrapolated."""
    clamp: tuple[Number, Number] | None = None
    round: Literal["up", "nearest"] | None = None
    """Rounds to an integer; `nearest` rounds halves up."""
    choose: Mapping[object, JsonValue] | None = None

    def value(self, given: GenerationInput) -> JsonValue:
        """The value to send; None if the client left the field out, and the argument is not sent."""
        if self.field is None:
            return deepcopy(self.const)
        value: JsonValue = getattr(given, self.field)
        if self.choose is not None and value is not None:
            return deepcopy(self.choose[value])
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._number(value)
        return value

    def _number(self, value: float) -> float:
        if self.scale is not None:
            low, high = self.scale
            value = low + value * (high - low)
        if self.clamp is not None:
            value = min(max(value, self.clamp[0]), self.clamp[1])
        if self.round is not None:
            return math.ceil(value) if self.round == "up" else math.floor(value + 0.5)
        return value

    def amount(self, value: float) -> float:
        """The amount of the field for which the argument asks, in the field's unit, if the client gives `value`."""
        low, high = self.scale or (0.0, 1.0)
        return (self._number(value) - low) / (high - low) if low < high else value

    def problems(self, modality: Modality) -> Iterator[str]:
        """Descriptions of the errors in it; none if `value` is defined for every input of the modality."""
        if (self.field is None) == (self.const is None):
            yield "needs either 'from' or 'const'"
            return
        steps = [name for name in ("scale", "clamp", "round", "choose") if getattr(self, name) is not None]
        if self.field is None:
            if steps:
                yield f"'const' takes no {', '.join(steps)}"
            return
        kinds = input_fields(modality).get(self.field)
        if kinds is None:
            yield f"{modality} has no field {self.field!r}; it has {', '.join(input_fields(modality))}"
            return
        yield from self._steps_that_do_not_fit(kinds, steps)
        for name, limits in (("scale", self.scale), ("clamp", self.clamp)):
            if limits is not None and limits[0] > limits[1]:
                yield f"'{name}' must be ascending: {limits[0]:g} > {limits[1]:g}"

    def _steps_that_do_not_fit(self, kinds: FieldKinds, steps: list[str]) -> Iterator[str]:
        numeric = [name for name in steps if name != "choose"]
        if numeric and not kinds.number:
            yield f"{self.field!r} is not a number, so it takes no {', '.join(numeric)}"
        if self.choose is None:
            return
        if not kinds.choices:
            yield f"{self.field!r} has no fixed choices, so it takes no choose"
        elif missing := [each for each in kinds.choices if each not in self.choose]:
            yield f"'choose' has no value for {', '.join(map(repr, missing))}"
        elif extra := [each for each in self.choose if each not in kinds.choices]:
            yield f"{self.field!r} is never {', '.join(map(repr, extra))}"


@dataclass(frozen=True, slots=True)
class FieldKinds:
    """The values that an input field can have, as far as mappings depend on them."""

    number: bool
    choices: tuple[object, ...]


def input_fields(modality: Modality) -> dict[str, FieldKinds]:
    """The fields of a modality's input that `from` may name."""
    fields = MODALITIES[modality].input.model_fields
    return {name: _kinds(info.annotation) for name, info in fields.items() if name != "modality"}


def _kinds(annotation: object) -> FieldKinds:
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    if annotation is bool:
        return FieldKinds(number=False, choices=(True, False))
    if get_origin(annotation) is Literal:
        return FieldKinds(number=False, choices=get_args(annotation))
    return FieldKinds(number=annotation in (int, float), choices=())
