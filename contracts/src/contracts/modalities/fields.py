"""What the fields of a modality's input are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

# Postgres text cannot hold NUL, so it is refused at the door rather than found out by a database.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]

UNSIGNED_ZERO = AfterValidator(lambda value: value + 0.0)
"""Makes -0.0 0.0: they are equal, and must not be told apart by how they are written. Comes after a number's limits."""


class Input(BaseModel):
    """What every modality's input is: frozen, and open to fields of newer versions."""

    # In the log a newer gateway may say more; at the door the gateway refuses what it does not know.
    model_config = ConfigDict(frozen=True, extra="ignore")

    modality: str
