"""The options of `segue submit` besides the music itself: routing, cost limit, deadline."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import typer

# The same values as in the contracts; importing those would slow the start of every command.
RouteBy = Literal["listed", "weights", "cheapest", "fastest"]
AmbiguityPolicy = Literal["hold", "resubmit"]
LostOutputPolicy = Literal["retry_elsewhere", "fail"]


def finite(value: float | None) -> float | None:
    """The value if it is finite: JSON has no infinity. Raises BadParameter."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


ProviderOption = Annotated[
    list[str] | None, typer.Option("--provider", help="Only this provider; repeat it for an order.")
]
RouteByOption = Annotated[RouteBy | None, typer.Option("--route-by", help="How the order of providers is chosen.")]
MaxCostOption = Annotated[
    float | None,
    typer.Option("--max-cost", metavar="USD", callback=finite, help="The most that all attempts may cost together."),
]
SameModelOnlyOption = Annotated[
    bool | None,
    typer.Option(
        "--same-model-only/--any-model", help="Whether no other model may be used instead; default: from the policies."
    ),
]
DeadlineOption = Annotated[
    float | None,
    typer.Option(
        "--deadline", metavar="SECONDS", callback=finite, help="Seconds after which the job ends, or is stopped."
    ),
]
AmbiguityPolicyOption = Annotated[
    AmbiguityPolicy | None,
    typer.Option("--ambiguity-policy", help="A lost submit: hold never pays twice; resubmit goes on, and may."),
]
LostOutputPolicyOption = Annotated[
    LostOutputPolicy | None,
    typer.Option(
        "--lost-output-policy",
        help="A paid run's output is lost: retry_elsewhere pays the next provider; fail ends it.",
    ),
]
