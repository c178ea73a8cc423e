"""What a client can ask for, the same whatever provider makes it, and what is decided with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from contracts.modalities.image import ImageInput
from contracts.modalities.music import MusicInput
from contracts.providers import PROVIDERS

if TYPE_CHECKING:
    Provider = str
else:
    # A type checker does not compute it; pydantic takes it for what may be in a message, and no other name is.
    Provider = Literal[*PROVIDERS]

PROVIDER_REF = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"
"""What a provider's id for a run looks like: it becomes part of a URL, so nothing else may be in it."""

AmbiguityPolicy = Literal["hold", "resubmit"]
"""What becomes of a job when nobody can tell whether its provider took the submit: it is held for evidence up to its
deadline, or, after the grace, submitted again at the risk of paying twice."""

LostOutputPolicy = Literal["retry_elsewhere", "fail"]
"""What becomes of a job whose run was paid for and whose output is lost: the next provider is paid as well, or the job
fails."""

GenerationInput = Annotated[MusicInput | ImageInput, Field(discriminator="modality")]
