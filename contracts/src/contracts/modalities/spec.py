"""The properties of a modality, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from contracts.modalities.fields import Input

PriceUnit = Literal["run", "image", "minute", "1000_s"]
"""The unit of a price. `minute`: each started minute of the audio that is requested from the provider; `1000_s`: 1000 s
of it, in proportion."""

MediaFamily = Literal["audio", "video", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A quantity of the input that a route may limit: a number, or the length of a text."""

    field: str
    label: str
    """Its name in the message about an exceeded limit."""
    unit: str

    def of(self, given: Input) -> float | None:
        """The quantity, in `unit`; None if the input does not have the field."""
        value = getattr(given, self.field)
        return len(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A field that a route may require or forbid, with the message for an input that does not comply."""

    field: str
    required: str
    forbidden: str

    def why_not(self, given: Input, need: Literal["required", "forbidden"]) -> str | None:
        """Why a route with this need cannot serve the input; None if it can."""
        if bool(getattr(given, self.field)) is (need == "required"):
            return None
        return self.required if need == "required" else self.forbidden


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """The number of price units that an amount of a field takes."""

    field: str
    size: float = 1
    """The amount of the field that is one unit."""
    begun: bool = False
    """A started unit counts as a whole one."""

    def of(self, amount: float) -> float:
        """The number of units; `amount` is in the unit of the field."""
        units = amount / self.size
        return math.ceil(units) if self.begun else units


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalitySpec:
    """One modality. A new one takes a module next to this one, and an entry in `MODALITIES`."""

    name: str
    input: type[Input]
    must_matter: tuple[str, ...]
    """Fields that a route must not ignore: it sends them, or its limits allow a single value."""
    optional: tuple[str, ...]
    """Fields that a route may ignore; the answer to the client lists the ignored ones."""
    limits: Mapping[str, Measure | Feature]
    """The limits that a route may have, by their names in the catalogue."""
    priced_per: Mapping[PriceUnit, Quantity | None]
    """The units that a price may have. None: each run is one unit."""
    asks: Mapping[str, Mapping[str, bool]]
    """The kinds of request, each with fields that are set or true (True) or not (False); the first match counts. The
    catalogue has default models for each kind, for requests that name no model."""
    family: MediaFamily
    """The media family of the outputs."""
    stands_in: MediaFamily | None = None
    """Another family whose files may contain the output, as video files contain audio."""
    numbered: bool = False
    """Whether a request may ask for several outputs."""
    takes_raw: bool = False
    """Whether an output may be raw samples, without a header."""

    def ask_of(self, given: Input) -> str:
        """The kind of the request, a key of `asks`."""
        for ask, fields in self.asks.items():
            for field, wanted in fields.items():
                if bool(getattr(given, field)) is not wanted:
                    break
            else:
                return ask
        raise ValueError(f"no kind of {self.name} is like this request")

    def named(self, n: int) -> str:
        """The file name of the n-th artifact without its extension; `n` counts from 1."""
        return f"{self.family}-{n}" if n > 1 or self.numbered else self.family
