"""The types of a request that do not depend on the provider: its input, its policies, and the names they use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Field

from contracts.modalities.fields import Input
from contracts.modalities.registry import MODALITIES
from contracts.providers.registry import PROVIDERS

if TYPE_CHECKING:
    Provider = str
    Modality = str
    Ask = str
    GenerationInput = Input
else:
    # Built from the registries at run time, which a type checker cannot evaluate; pydantic enforces them in messages.
    Provider = Literal[*PROVIDERS]
    Modality = Literal[*MODALITIES]
    Ask = Literal[*(ask for spec in MODALITIES.values() for ask in spec.asks)]
    GenerationInput = Annotated[
        Union[*(spec.input for spec in MODALITIES.values())],
        Field(discriminator="modality"),
    ]

PROVIDER_REF = r"^[A-Za-z0-9_-]{1,200}$"
"""The pattern of a provider's run id, as adapters accept it from providers and operators name it. The id becomes part
of URLs, so it may contain no other characters."""

AmbiguityPolicy = Literal["hold", "resubmit"]
"""What happens to a job if it is not known whether its provider accepted the submit. `hold`: it waits for evidence up
to its deadline. `resubmit`: it is submitted again after the grace period, at the risk of paying twice."""

LostOutputPolicy = Literal["retry_elsewhere", "fail"]
"""What happens to a job whose run was paid for and whose output is lost: the next provider is paid too, or the job
fails."""
