"""The request for music: its validation, and the message that creates its job. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import ConfigDict, Field, JsonValue, StringConstraints, ValidationInfo, field_validator

from contracts.catalogue import Catalogue, UnknownModel
from contracts.generation import AmbiguityPolicy, LostOutputPolicy, Provider
from contracts.ids import JobId, TrackId
from contracts.messages.base import Items
from contracts.messages.requests import LONGEST_DEADLINE_S, JobRequested
from contracts.messages.routing import MaxCost, RouteBy, Weights
from contracts.modalities.fields import Text
from contracts.modalities.music import MusicInput
from contracts.providers.registry import PROVIDERS
from contracts.text import is_blank, stripped
from gateway.intake.errors import ModelNotFound, NoRoute

MAX_BODY_BYTES: Final = 256 * 1024
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
MetadataValue = Annotated[Text, StringConstraints(max_length=500)]

SONG_PROVIDERS: Final = tuple(PROVIDERS)[::-1]
SEED_REQUEST: Final[dict[str, JsonValue]] = {
    "prompt": "Warm ambient pad",
    "duration_s": 20,
    "has_vocals": False,
    "style_strength": 0.5,
}
SONG_REQUEST: Final[dict[str, JsonValue]] = {
    "prompt": "Slow country ballad, acoustic guitar, warm voice",
    "duration_s": 60,
    "has_vocals": True,
    "lyrics": "The porch light hums, the road is long",
    "providers": [*SONG_PROVIDERS],
    "metadata": {"order": "1042"},
}


class TrackRequest(MusicInput):
    """The music to generate, and how to route the job."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [SEED_REQUEST, SONG_REQUEST]})

    model: Annotated[Text, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, description="A model of the catalogue; unset: the first model in its default order with a route."
    )
    providers: Items[Provider] | None = Field(
        default=None, min_length=1, max_length=10, description="The providers to try, in this order; unset: all."
    )
    route_by: RouteBy | None = Field(
        default=None,
        description="How the providers are ordered: as listed, by weights, the cheapest or the fastest first.",
    )
    weights: Weights | None = Field(
        default=None, description="The relative frequency with which each provider is first; for route_by: weights."
    )
    max_cost_usd: MaxCost | None = Field(
        default=None, description="The limit on the cost of all attempts together; an attempt above it is not sent."
    )
    same_model_only: bool | None = Field(
        default=None, description="Whether to exclude routes that use a substitute model."
    )
    deadline_s: float | None = Field(
        default=None,
        ge=1,
        le=LONGEST_DEADLINE_S,
        allow_inf_nan=False,
        description="Seconds after which the job ends at the latest.",
    )
    ambiguity_policy: AmbiguityPolicy | None = Field(
        default=None,
        description="When it is not known whether a provider accepted a submit: hold waits and never pays twice; "
        "resubmit goes on with the next provider and may pay twice.",
    )
    lost_output_policy: LostOutputPolicy | None = Field(
        default=None,
        description="When the output of a paid run is lost: retry_elsewhere pays the next provider; fail ends the job.",
    )
    metadata: dict[MetadataKey, MetadataValue] | None = Field(
        default=None, max_length=20, description="Your own key-value pairs, returned unchanged with the job."
    )

    @field_validator("prompt", "lyrics", mode="before")
    @classmethod
    def _is_not_blank(cls, value: object) -> object:
        """The text as it is sent and measured: without surrounding blanks."""
        if not isinstance(value, str) or not value or "\x00" in value:
            return value
        if is_blank(value):
            raise ValueError("is blank: it contains only blanks and invisible characters")
        return stripped(value)

    @field_validator("providers")
    @classmethod
    def _each_once(cls, value: tuple[Provider, ...] | None) -> tuple[Provider, ...] | None:
        if value is not None and len(set(value)) < len(value):
            raise ValueError("names a provider twice")
        return value

    @field_validator("weights")
    @classmethod
    def _apply(cls, value: Weights | None, info: ValidationInfo) -> Weights | None:
        if value is not None and info.data.get("route_by") not in (None, "weights"):
            raise ValueError(f"have no effect where route_by is {info.data['route_by']}")
        return value

    def music(self) -> MusicInput:
        """The fields that go to a provider."""
        return MusicInput.model_validate(self.model_dump(include=set(MusicInput.model_fields)))

    def fingerprint(self) -> str:
        """The SHA-256 of the canonical request: independent of the order of fields, white space and 20 or 20.0."""
        fields = self.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        return hashlib.sha256(_CANONICAL.encode(fields).encode()).hexdigest()


def require_route(
    request: TrackRequest, music: MusicInput, catalogue: Catalogue, first: Provider, enabled: Sequence[Provider]
) -> None:
    """Check that an enabled provider has a route for the request and its music. Raises ModelNotFound, and NoRoute."""
    same_model_only = bool(request.same_model_only)
    try:
        plan = catalogue.plan(
            music, request.model, request.providers, first, enabled=enabled, same_model_only=same_model_only
        )
    except UnknownModel as error:
        raise ModelNotFound(request.model, str(error)) from None
    if not plan.routes:
        raise NoRoute(plan.skipped)


def to_message(
    request: TrackRequest,
    music: MusicInput,
    job_id: JobId,
    track_id: TrackId,
    tenant: str,
    *,
    fingerprint: str,
    now: datetime,
    accept_by: datetime,
    deadline_s: float,
    ambiguity_policy: AmbiguityPolicy = "hold",
    lost_output_policy: LostOutputPolicy = "retry_elsewhere",
) -> JobRequested:
    """The message that creates the job of a request, whose music and fingerprint are given.

    `now` is by the database's clock, `accept_by` by Kafka's.
    """
    return JobRequested(
        job_id=job_id,
        occurred_at=now,
        track_id=track_id,
        tenant=tenant,
        fingerprint=fingerprint,
        input=music,
        model=request.model,
        providers=request.providers,
        route_by=request.route_by,
        weights=request.weights,
        max_cost_usd=request.max_cost_usd,
        same_model_only=request.same_model_only,
        accept_by=accept_by,
        deadline_at=now + timedelta(seconds=request.deadline_s or deadline_s),
        ambiguity_policy=request.ambiguity_policy or ambiguity_policy,
        lost_output_policy=request.lost_output_policy or lost_output_policy,
        metadata=request.metadata or {},
    )
