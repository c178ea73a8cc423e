"""Music: a piece from a text description, with or without vocals."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from contracts.modalities.fields import UNSIGNED_ZERO, Input, Text
from contracts.modalities.spec import Feature, Measure, ModalitySpec, Quantity


class MusicInput(Input):
    """A piece of music, described by a text."""

    modality: Literal["music"] = "music"
    prompt: Text = Field(min_length=1, max_length=4000, description="What it should sound like.")
    duration_s: Annotated[
        float, Field(gt=0, le=600, allow_inf_nan=False, description="Length in seconds."), UNSIGNED_ZERO
    ] = 30
    has_vocals: bool = Field(default=False, description="Whether it has vocals.")
    style_strength: Annotated[
        float,
        Field(ge=0, le=1, allow_inf_nan=False, description="How closely to follow the prompt, 0 to 1."),
        UNSIGNED_ZERO,
    ] = 0.5
    lyrics: Text | None = Field(default=None, min_length=1, max_length=10_000, description="What is sung.")

    @model_validator(mode="after")
    def _lyrics_need_vocals(self) -> MusicInput:
        if self.lyrics is not None and not self.has_vocals:
            raise ValueError("lyrics need has_vocals: true")
        return self


MUSIC: Final = ModalitySpec(
    name="music",
    input=MusicInput,
    must_matter=("prompt", "has_vocals", "lyrics"),
    optional=("duration_s", "style_strength"),
    limits={
        "prompt_chars": Measure(field="prompt", label="prompt", unit="characters"),
        "duration_s": Measure(field="duration_s", label="duration", unit="seconds"),
        "vocals": Feature(
            field="has_vocals", required="makes only music with vocals", forbidden="makes only music without vocals"
        ),
        "lyrics": Feature(field="lyrics", required="needs lyrics", forbidden="takes no lyrics"),
        "lyrics_chars": Measure(field="lyrics", label="lyrics", unit="characters"),
    },
    priced_per={
        "run": None,
        "minute": Quantity(field="duration_s", size=60, begun=True),
        "1000_s": Quantity(field="duration_s", size=1000),
    },
    asks={
        "instrumental": {"has_vocals": False},
        "vocals_with_lyrics": {"lyrics": True},
        "vocals_without_lyrics": {},
    },
    family="audio",
    stands_in="video",
    takes_raw=True,
)
