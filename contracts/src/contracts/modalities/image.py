"""Images: one or several, from a text description."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from contracts.modalities.fields import Input, Text
from contracts.modalities.spec import Measure, ModalitySpec, Quantity


class ImageInput(Input):
    """Images, described by a text."""

    modality: Literal["image"] = "image"
    prompt: Text = Field(min_length=1, max_length=4000, description="What it should show.")
    aspect_ratio: Literal["1:1", "4:3", "3:4", "16:9", "9:16"] = "1:1"
    num_images: int = Field(default=1, ge=1, le=4)
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)


IMAGE: Final = ModalitySpec(
    name="image",
    input=ImageInput,
    must_matter=("prompt", "num_images", "aspect_ratio"),
    optional=("seed",),
    limits={
        "prompt_chars": Measure(field="prompt", label="prompt", unit="characters"),
        "num_images": Measure(field="num_images", label="num_images", unit="images"),
    },
    priced_per={"run": None, "image": Quantity(field="num_images")},
    asks={"image": {}},
    family="image",
    numbered=True,
)
