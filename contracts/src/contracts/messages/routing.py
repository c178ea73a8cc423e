"""How requests and policies steer where a job goes: the values that both may hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict

from contracts.generation import Provider
from contracts.modalities.fields import UNSIGNED_ZERO

RouteBy = Literal["listed", "weights", "cheapest", "fastest"]
"""What the order of the providers goes by."""


def _counts_for_somebody(weights: dict[Provider, float]) -> dict[Provider, float]:
    if not any(weights.values()):
        raise ValueError("are all 0")
    return weights


Weight = Annotated[float, Strict(), Field(ge=0, le=1_000_000, allow_inf_nan=False), UNSIGNED_ZERO]
Weights = Annotated[dict[Provider, Weight], Field(min_length=1), AfterValidator(_counts_for_somebody)]
"""How often each provider is to be the first, in proportion; one without a weight comes after those with one."""

MaxCost = Annotated[float, Strict(), Field(gt=0, le=1_000_000, allow_inf_nan=False), UNSIGNED_ZERO]
"""The most that all attempts of a job may cost together, in USD."""
