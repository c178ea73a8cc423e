"""The specifications of a provider and of a modality, as a separate distribution declares them."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from contracts.modalities.fields import Input, Text
from contracts.modalities.spec import Measure, ModalitySpec
from contracts.providers.spec import ProviderSpec, Setting, StandardWebhooks

QUILL: Final = ProviderSpec(
    name="quill",
    title="Quill",
    listing="Quill lists runs at quill.example/runs",
    signature=StandardWebhooks(
        secret=Setting(name="QUILL_WEBHOOK_SECRET", description="What Quill signs webhooks with."),
        api_token=Setting(name="QUILL_TOKEN", description="Quill's API token."),
        api_url=Setting(name="QUILL_URL", description="The base of Quill's API.", default="https://quill.example"),
        secret_path="/secret",
    ),
    run_id_key="id",
)


class SketchInput(Input):
    """A sketch in words."""

    modality: Literal["sketch"] = "sketch"
    prompt: Text = Field(min_length=1, max_length=400)


SKETCH: Final = ModalitySpec(
    name="sketch",
    input=SketchInput,
    must_matter=("prompt",),
    optional=(),
    limits={"prompt_chars": Measure(field="prompt", label="prompt", unit="characters")},
    priced_per={"run": None},
    asks={"sketch": {}},
    family="image",
)
