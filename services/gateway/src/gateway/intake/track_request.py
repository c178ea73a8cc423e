"""What a request has to be before it becomes a job: pure, from bytes to a message, with every refusal in words."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, JsonValue, StringConstraints, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from contracts.catalogue import Catalogue, UnknownModel
from contracts.generation import AmbiguityPolicy, LostOutputPolicy, Provider
from contracts.ids import JobId, track_id_for
from contracts.messages.requests import LONGEST_DEADLINE_S, JobRequested
from contracts.messages.routing import MaxCost, RouteBy, Weights
from contracts.modalities.fields import Text
from contracts.modalities.music import MusicInput
from contracts.text import is_blank, stripped
from gateway.http.bodies import not_json
from gateway.http.problems import FieldProblem, Problem, SkippedProvider, shown

MAX_BODY_BYTES: Final = 256 * 1024
MAX_ERRORS: Final = 20

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
MetadataValue = Annotated[Text, StringConstraints(max_length=500)]

_JSON = re.compile(r"^application/(?:[\w.+-]+\+)?json$")
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s\";]*)", re.IGNORECASE)
# ASCII is UTF-8.
_UTF_8: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_LIMITS: Final = ("ge", "gt", "le", "lt", "min_length", "max_length", "expected", "pattern")

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
    "providers": ["replicate", "fal"],
    "metadata": {"order": "1042"},
}


class TrackRequest(MusicInput):
    """The music to make, and how."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [SEED_REQUEST, SONG_REQUEST]})

    model: Annotated[Text, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, description="A model of the catalogue; unset: the first of its default order that can do it."
    )
    providers: tuple[Provider, ...] | None = Field(
        default=None, min_length=1, max_length=10, description="Only these, tried in this order; unset: all."
    )
    route_by: RouteBy | None = Field(
        default=None,
        description="What the providers' order goes by: as listed, by weights, the cheapest or the fastest first.",
    )
    weights: Weights | None = Field(
        default=None, description="How often each provider is to be the first, in proportion; for route_by: weights."
    )
    max_cost_usd: MaxCost | None = Field(
        default=None, description="The most that all attempts may cost together; what would pass it is not sent."
    )
    same_model_only: bool | None = Field(
        default=None, description="Whether to leave out routes on which another model stands in."
    )
    deadline_s: float | None = Field(
        default=None,
        ge=1,
        le=LONGEST_DEADLINE_S,
        allow_inf_nan=False,
        description="Seconds after which the job ends in any case.",
    )
    ambiguity_policy: AmbiguityPolicy | None = Field(
        default=None,
        description="If a submit cannot be told accepted or not: hold never pays twice, resubmit goes on, and may.",
    )
    lost_output_policy: LostOutputPolicy | None = Field(
        default=None,
        description="If the output of a paid run is lost: retry_elsewhere pays the next provider, fail ends the job.",
    )
    metadata: dict[MetadataKey, MetadataValue] | None = Field(
        default=None, max_length=20, description="Your own, given back as it is."
    )

    @field_validator("prompt", "lyrics", mode="before")
    @classmethod
    def _says_something(cls, value: object) -> object:
        """The text as it goes to a provider and counts: without the blanks around it."""
        if not isinstance(value, str) or not value or "\x00" in value:
            return value
        if is_blank(value):
            raise ValueError("is blank: it has nothing but blanks and invisible characters")
        return stripped(value)

    @field_validator("providers")
    @classmethod
    def _each_once(cls, value: tuple[Provider, ...] | None) -> tuple[Provider, ...] | None:
        if value is not None and len(set(value)) < len(value):
            raise ValueError("names a provider twice")
        return value

    @field_validator("weights")
    @classmethod
    def _mean_something(cls, value: Weights | None, info: ValidationInfo) -> Weights | None:
        if value is not None and info.data.get("route_by") not in (None, "weights"):
            raise ValueError(f"mean nothing where route_by is {info.data['route_by']}")
        return value

    def music(self) -> MusicInput:
        """The part that says what it should sound like."""
        return MusicInput.model_validate(self.model_dump(include=set(MusicInput.model_fields)))

    def fingerprint(self) -> str:
        """The same for every body that asks for the same: order, spacing, 20 or 20.0 make no difference."""
        said = self.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def require_json(content_type: str | None) -> None:
    """Raises Problem unless a body of this content type can be JSON in UTF-8."""
    kind, _, parameters = (content_type or "").partition(";")
    charsets = [charset.lower() for charset in _CHARSET.findall(parameters)]
    if not _JSON.match(kind.strip().lower()) or not set(charsets) <= _UTF_8:
        detail = f"the body has to be application/json in UTF-8, not {shown(content_type or 'of no declared type')}"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)


def parse(raw: bytes) -> TrackRequest:
    """The request in a body. Raises Problem: 400 if it is not JSON, 422 with each field's fault if it is wrong."""
    try:
        return TrackRequest.model_validate_json(raw, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
    if details[0]["type"] == "json_invalid":
        raise not_json(raw, details[0]["msg"].removeprefix("Invalid JSON: "))
    faulty = {each["loc"][:-1] for each in details}
    # A list whose entry is refused also counts as too short; the entry's own fault says it better.
    told = [each for each in details if not (each["type"] == "too_short" and each["loc"] in faulty)]
    problems = [_field_problem(each) for each in told[:MAX_ERRORS]]
    first = f"{problems[0].field}: {problems[0].problem}"
    raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", first, errors=problems)


def require_route(request: TrackRequest, catalogue: Catalogue, first: Provider) -> None:
    """Raises Problem, with each route's reason, unless some provider can do what is asked."""
    try:
        plan = catalogue.plan(
            request.music(), request.model, request.providers, first, same_model_only=bool(request.same_model_only)
        )
    except UnknownModel as error:
        fault = FieldProblem(field="model", problem=str(error), value=shown(request.model))
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "unknown-model", str(error), errors=[fault]) from None
    if plan.routes:
        return
    routes = [SkippedProvider(provider=each.provider, model=each.model, reason=each.reason) for each in plan.skipped]
    detail = "; ".join(f"{each.model} at {each.provider}: {each.reason}" for each in routes)
    raise Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "no-route",
        f"nothing can do what is asked: {detail or 'the providers named have no route to the model'}",
        routes=routes,
    )


def to_message(
    request: TrackRequest,
    job_id: JobId,
    tenant: str,
    *,
    now: datetime,
    accept_by: datetime,
    deadline_s: float,
    ambiguity_policy: AmbiguityPolicy = "hold",
    lost_output_policy: LostOutputPolicy = "retry_elsewhere",
) -> JobRequested:
    """The message that makes the request a job; `now` is by the database's clock, `accept_by` by Kafka's."""
    return JobRequested(
        job_id=job_id,
        occurred_at=now,
        track_id=track_id_for(job_id),
        tenant=tenant,
        fingerprint=request.fingerprint(),
        input=request.music(),
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


def _field_problem(error: ErrorDetails) -> FieldProblem:
    context: Mapping[str, Any] = error.get("ctx") or {}
    kind = error["type"]
    limit = {name: context[name] for name in _LIMITS if isinstance(context.get(name), str | int | float)}
    where = [part for part in error["loc"] if part != "[key]"][:6]
    field = ".".join(shown(part) if isinstance(part, str) else str(part) for part in where)
    match kind:
        case "extra_forbidden":
            problem = f"there is no such field; there is {', '.join(sorted(TrackRequest.model_fields))}"
        case "string_pattern_mismatch":
            problem, limit = "must not contain NUL characters", {}
        case "value_error":
            problem = str(context.get("error", error["msg"]))
        case "missing":
            problem = "is required"
        case _:
            problem = re.sub(r"^(Input|String|Tuple|Dictionary) should", "should", error["msg"])
    given = error["input"]
    # A whole object is not repeated: it may be large, and the field's name says enough.
    value = None if kind == "missing" or isinstance(given, dict | list) else shown(given)
    return FieldProblem(field=field or "body", problem=problem, limit=limit or None, value=value)
