"""The requests of clients, and the fault words in a prompt that make a provider misbehave for that request."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.load.faults import PERSISTENT_FAULTS, REQUEST_FAULTS

LYRICS: Final = "The porch light hums, the road is long"
PERSISTENT_FAULT_DEADLINE_S: Final = 25
REPEATED, CONTRADICTED, CANCELLED = 0.06, 0.01, 0.04
ORDERS: Final[tuple[tuple[list[str] | None, float], ...]] = (
    (None, 4),
    (["fal", "replicate"], 2),
    (["replicate", "fal"], 4),
    (["fal"], 1),
    (["replicate"], 1),
)
KINDS: Final[tuple[tuple[Mapping[str, Any], float], ...]] = (
    ({"duration_s": 2, "has_vocals": False}, 8),
    ({"duration_s": 1, "has_vocals": False, "model": "music/stable-audio-2.5"}, 3),
    ({"duration_s": 5, "has_vocals": False, "model": "music/elevenlabs"}, 1),
    ({"duration_s": 10, "has_vocals": False, "model": "music/lyria-2"}, 0.5),
    ({"duration_s": 2, "has_vocals": True, "lyrics": LYRICS}, 1),
    ({"duration_s": 2, "has_vocals": True, "lyrics": LYRICS, "model": "music/minimax-1.5"}, 1),
)
DEADLINES_S: Final[tuple[tuple[float | None, float], ...]] = ((None, 9), (90, 1), (8, 0.3))


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """What one client requests, and what it does afterwards."""

    words: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    """The names of request faults, which are added to the prompt."""
    repeated: bool = False
    contradicted: bool = False
    """Sent again with the same key and a different body."""
    cancelled: bool = False

    def body(self, token: str) -> dict[str, Any]:
        """The body of the POST. The token is in every field that a provider's prompt may be made from."""
        words = " ".join([self.words, f"[{token}]", *(f"<{fault}>" for fault in self.faults)])
        body = {"duration_s": 2, "has_vocals": False, "style_strength": 0.5, **self.fields, "prompt": words}
        if "lyrics" in body:
            body["lyrics"] = f"{body['lyrics']} {words}"
        return body | {"metadata": {"chaos": token}}


@dataclass(slots=True)
class Request:
    """One request of one client, and its state."""

    token: str
    spec: RequestSpec
    asked_at: float = field(default_factory=time.time)
    job_id: str | None = None
    """The id in the first 202."""
    ended: str | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with `ended`."""


def draw_request(rng: random.Random, faulty: float) -> RequestSpec:
    """Draw a random request."""
    fields = dict(_one_of(rng, KINDS))
    if (providers := _one_of(rng, ORDERS)) is not None:
        fields["providers"] = providers
    if (deadline_s := _one_of(rng, DEADLINES_S)) is not None:
        fields["deadline_s"] = deadline_s
    has_fault = rng.random() < faulty
    name = rng.choice(sorted(REQUEST_FAULTS))
    if has_fault and name in PERSISTENT_FAULTS:
        fields["deadline_s"] = PERSISTENT_FAULT_DEADLINE_S
    draws = [rng.random() for _ in range(3)]
    return RequestSpec(
        rng.choice(("a warm pad", "slow strings", "rain on a tin roof", "a far bell")),
        fields,
        (name,) if has_fault else (),
        repeated=draws[0] < REPEATED,
        contradicted=draws[1] < CONTRADICTED,
        cancelled=draws[2] < CANCELLED,
    )


def _one_of(rng: random.Random, weighted: tuple[tuple[Any, float], ...]) -> Any:
    values, weights = zip(*weighted, strict=True)
    return rng.choices(values, weights)[0]
