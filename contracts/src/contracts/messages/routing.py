"""The routing options that requests and policies have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict

from contracts.generation import Provider
from contracts.modalities.fields import UNSIGNED_ZERO

RouteBy = Literal["listed", "weights", "cheapest", "fastest"]
"""What determines the order of the providers."""


def _not_all_zero(weights: dict[Provider, float]) -> dict[Provider, float]:
    if not any(weights.values()):
        raise ValueError("are all 0")
    return weights


Weight = Annotated[float, Strict(), Field(ge=0, le=1_000_000, allow_inf_nan=False), UNSIGNED_ZERO]
Weights = Annotated[dict[Provider, Weight], Field(min_length=1), AfterValidator(_not_all_zero)]
"""Each provider is the first in proportion to its weight; providers without a weight come last."""

MaxCost = Annotated[float, Strict(), Field(gt=0, le=1_000_000, allow_inf_nan=False), UNSIGNED_ZERO]
"""The maximum cost of all attempts of a job together, in USD."""
