"""The types of the fields of a modality's input."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

# PostgreSQL cannot store NUL in text: the gateway rejects it, so that no write fails later.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]

UNSIGNED_ZERO = AfterValidator(lambda value: value + 0.0)
"""Replaces -0.0 by 0.0: they are equal, so their text must be the same. Comes after the limits of a number."""


class Input(BaseModel):
    """The base of every modality's input: immutable; unknown fields are ignored."""

    # A newer gateway may publish more fields. In requests, the gateway rejects unknown fields.
    model_config = ConfigDict(frozen=True, extra="ignore")

    modality: str
