"""What a client can ask for: the inputs of each modality, the same whatever provider makes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

Provider = Literal["fal", "replicate"]
PROVIDERS: tuple[Provider, ...] = ("fal", "replicate")

Modality = Literal["music", "image"]

PROVIDER_REF = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"
"""What a provider's id for a run looks like: it becomes part of a URL, so nothing else may be in it."""

AmbiguityPolicy = Literal["hold", "resubmit"]
"""What becomes of a job when nobody can tell whether its provider took the submit: it is held for evidence up to its
deadline, or, after the grace, submitted again at the risk of paying twice."""

LostOutputPolicy = Literal["retry_elsewhere", "fail"]
"""What becomes of a job whose run was paid for and whose output is lost: the next provider is paid as well, or the job
fails."""

# Postgres text cannot hold NUL, so it is refused at the door rather than found out by a database.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


UNSIGNED_ZERO = AfterValidator(lambda value: value + 0.0)
"""Makes -0.0 0.0: they are equal, and must not be told apart by how they are written. Comes after a number's limits."""


class _Input(BaseModel):
    # In the log a newer gateway may say more; at the door the gateway refuses what it does not know.
    model_config = ConfigDict(frozen=True, extra="ignore")


class MusicInput(_Input):
    """A piece of music in words."""

    modality: Literal["music"] = "music"
    prompt: Text = Field(min_length=1, max_length=4000, description="What it should sound like.")
    duration_s: Annotated[
        float, Field(gt=0, le=600, allow_inf_nan=False, description="Length in seconds."), UNSIGNED_ZERO
    ] = 30
    has_vocals: bool = Field(default=False, description="Whether somebody sings.")
    style_strength: Annotated[
        float,
        Field(ge=0, le=1, allow_inf_nan=False, description="How closely to follow the prompt, 0 to 1."),
        UNSIGNED_ZERO,
    ] = 0.5
    lyrics: Text | None = Field(default=None, min_length=1, max_length=10_000, description="What is sung.")

    @model_validator(mode="after")
    def _lyrics_need_a_voice(self) -> MusicInput:
        if self.lyrics is not None and not self.has_vocals:
            raise ValueError("lyrics need has_vocals: true")
        return self


class ImageInput(_Input):
    """A picture in words."""

    modality: Literal["image"] = "image"
    prompt: Text = Field(min_length=1, max_length=4000, description="What it should show.")
    aspect_ratio: Literal["1:1", "4:3", "3:4", "16:9", "9:16"] = "1:1"
    num_images: int = Field(default=1, ge=1, le=4)
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)


GenerationInput = Annotated[MusicInput | ImageInput, Field(discriminator="modality")]
