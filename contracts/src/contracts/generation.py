"""What a client can ask for, the same whatever provider makes it, and what is decided with it."""

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
    # What follows from the specs, no type checker can know; pydantic lets nothing else into a message.
    Provider = Literal[*PROVIDERS]
    Modality = Literal[*MODALITIES]
    Ask = Literal[*(ask for spec in MODALITIES.values() for ask in spec.asks)]
    GenerationInput = Annotated[
        Union[*(spec.input for spec in MODALITIES.values())],
        Field(discriminator="modality"),
    ]

PROVIDER_REF = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"
"""What a provider's id for a run looks like: it becomes part of a URL, so nothing else may be in it."""

AmbiguityPolicy = Literal["hold", "resubmit"]
"""What becomes of a job when nobody can tell whether its provider took the submit: it is held for evidence up to its
deadline, or, after the grace, submitted again at the risk of paying twice."""

LostOutputPolicy = Literal["retry_elsewhere", "fail"]
"""What becomes of a job whose run was paid for and whose output is lost: the next provider is paid as well, or the job
fails."""
