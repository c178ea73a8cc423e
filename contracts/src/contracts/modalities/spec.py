"""What Segue has to know of a modality, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from contracts.modalities.fields import Input

PriceUnit = Literal["run", "image", "minute", "1000_s"]
"""What a price is for. `minute`: of the audio asked for, each one begun; `1000_s`: of the audio, in proportion."""

MediaFamily = Literal["audio", "video", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A size of the input that a route may limit: a number, or the length of a text."""

    field: str
    said: str
    """What it is called where a route cannot take it."""
    unit: str

    def of(self, given: Input) -> float | None:
        """The size; None where the field is left out."""
        value = getattr(given, self.field)
        return len(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A field that a route may require or forbid, with what is said where the input does not fit."""

    field: str
    required: str
    forbidden: str

    def why_not(self, given: Input, need: Literal["required", "forbidden"]) -> str | None:
        """Why a route with this need cannot take the input; None if it can."""
        if bool(getattr(given, self.field)) is (need == "required"):
            return None
        return self.required if need == "required" else self.forbidden


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """How many units of a price an input takes."""

    field: str
    size: float = 1
    """How much of the field is one unit."""
    begun: bool = False
    """A unit that is begun counts as a whole one."""

    def of(self, given: Input) -> float:
        """How many."""
        units: float = getattr(given, self.field) / self.size
        return math.ceil(units) if self.begun else units


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalitySpec:
    """One modality. A new one is a module beside this one, and an entry in `MODALITIES`."""

    name: str
    input: type[Input]
    must_matter: tuple[str, ...]
    """Fields that a route may not pass over in silence: it sends them, or its limits leave no doubt about them."""
    optional: tuple[str, ...]
    """Fields that a route may do without; a client is told which of them make no difference."""
    limits: Mapping[str, Measure | Feature]
    """What a route may limit, by the name of the limit in the catalogue."""
    priced_per: Mapping[PriceUnit, Quantity | None]
    """What a price may be for; None: a run is one unit, whatever it makes."""
    asks: Mapping[str, Mapping[str, bool]]
    """What a request asks for, by which of its fields are set or true; the first that fits counts. The catalogue has an
    order of models for each, for requests that name none."""
    family: MediaFamily
    """Of which media the outputs are."""
    stands_in: MediaFamily | None = None
    """Media that may hold the output too, as a film holds sound."""
    numbered: bool = False
    """Whether a request may ask for several outputs."""
    takes_raw: bool = False
    """Whether an output may be samples without a header."""

    def ask_of(self, given: Input) -> str:
        """What the request asks for."""
        fitting = (
            ask
            for ask, fields in self.asks.items()
            if all(bool(getattr(given, field)) is wanted for field, wanted in fields.items())
        )
        return next(fitting)

    def named(self, n: int) -> str:
        """The name, without its extension, of an artifact's file; `n` counts from 1."""
        return f"{self.family}-{n}" if n > 1 or self.numbered else self.family
