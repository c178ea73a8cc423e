"""`/api/attempts`: single attempts, the resolution of ambiguous ones, and fetching an output again."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Final, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import ErrorDetails

from contracts.failures import COLLECTABLE, FailureKind
from contracts.generation import PROVIDER_REF, Provider
from contracts.ids import JobId
from contracts.messages.requests import CollectionRequested, ResolutionRequested
from gateway.context import TENANT, GatewayDep, PublishDeadline
from gateway.http.json_body import field_name, json_body
from gateway.http.pagination import CursorText, cursor_of, cursor_text
from gateway.http.problem_document import FieldProblem, Problem, documented
from gateway.queries.model import AttemptOfJob
from gateway.text import quoted
from gateway.views.attempt_schemas import AttemptPage, CollectionAnswer, OperatorsAttempt, ResolutionAnswer
from gateway.views.attempts import operators_attempt, what_follows

router = APIRouter(prefix="/api/attempts", tags=["attempts"])
operator_router = APIRouter(prefix="/api/attempts", tags=["attempts"])
"""The calls that change an attempt."""

MAX_BODY_BYTES: Final = 4096
_NOT_FOUND = documented(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
_REFUSALS: Final = documented(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


class Resolution(BaseModel):
    """What an operator found at the provider: exactly one of the two fields."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"minProperties": 1, "maxProperties": 1, "examples": [{"accepted": "r8x2k"}]}
    )

    accepted: str = Field(
        default="", pattern=PROVIDER_REF, description="The provider accepted the submit; the id of its run."
    )
    never_accepted: bool = Field(
        default=False,
        description="The provider has no such run, and billed nothing.",
        json_schema_extra={"const": True},
    )

    @model_validator(mode="after")
    def _has_one_field(self) -> Self:
        if len(self.model_fields_set) != 1 or not (self.accepted or self.never_accepted):
            raise ValueError('send exactly one of {"accepted": "<the run\'s id>"} and {"never_accepted": true}')
        return self


def _first_fault(_model: type[BaseModel], errors: Sequence[ErrorDetails]) -> list[FieldProblem]:
    # The body has one field, so any further error would only repeat the first.
    first = errors[0]
    problem = {
        "string_pattern_mismatch": "has to be the id of a run: 1 to 200 letters, digits, hyphens and underscores",
        "extra_forbidden": "there is no such field; the fields are accepted, never_accepted",
    }.get(first["type"], str(first.get("ctx", {}).get("error", first["msg"])))
    value = quoted(first["input"]) if isinstance(first["input"], str) else None
    return [FieldProblem(field=field_name(first["loc"][:3]), problem=problem, value=value)]


@router.get("", responses=documented(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE))
async def list_attempts(
    gateway: GatewayDep,
    ambiguous: Annotated[
        bool, Query(description="Only attempts of which it is not known whether the provider accepted them.")
    ] = False,
    provider: Provider | None = None,
    cursor: CursorText = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> AttemptPage:
    """List attempts, newest first."""
    found = await gateway.lookup.attempts(TENANT, provider, cursor_of(cursor), limit, ambiguous=ambiguous)
    after = (found[-1].first_at, found[-1].attempt_id) if len(found) == limit else None
    attempts = [operators_attempt(each, gateway.catalogue) for each in found]
    return AttemptPage(attempts=attempts, next_cursor=cursor_text(after))


@router.get("/{attempt_id}", responses=_NOT_FOUND)
async def get_attempt(attempt_id: str, gateway: GatewayDep) -> OperatorsAttempt:
    """Get one attempt, with the data to find its run at the provider."""
    return operators_attempt(await gateway.lookup.attempt(attempt_id, TENANT), gateway.catalogue)


@operator_router.post("/{attempt_id}/resolve", status_code=202, responses=_REFUSALS)
async def resolve_attempt(
    attempt_id: str,
    gateway: GatewayDep,
    deadline: PublishDeadline,
    resolution: Annotated[Resolution, json_body(Resolution, MAX_BODY_BYTES, faults=_first_fault)],
) -> ResolutionAnswer:
    """Resolve an ambiguous attempt: the provider accepted it as this run, or never accepted it.

    An attempt that already counts as never accepted can be resolved as accepted.
    """
    found = await gateway.lookup.attempt(attempt_id, TENANT)
    provider_ref = resolution.accepted or None
    if not found.ambiguous and not (provider_ref and found.attempt.kind == FailureKind.NEVER_ACCEPTED):
        raise Problem(HTTPStatus.CONFLICT, "attempt-not-ambiguous", _describe(found))
    if provider_ref is not None and await gateway.lookup.other_of_run(found, provider_ref) is not None:
        detail = f"the run {provider_ref} at {found.attempt.provider} belongs to another attempt"
        raise Problem(HTTPStatus.CONFLICT, "run-of-another-attempt", detail)
    message = ResolutionRequested(
        job_id=JobId(found.job_id),
        occurred_at=gateway.clocks.now(),
        tenant=TENANT,
        attempt_id=found.attempt_id,
        provider=found.attempt.provider,
        provider_ref=provider_ref,
    )
    await gateway.publisher.publish_and_tail(message, deadline)
    return ResolutionAnswer(attempt_id=found.attempt_id, job_id=found.job_id, message=what_follows(found, provider_ref))


@operator_router.post(
    "/{attempt_id}/collect",
    status_code=202,
    responses=documented(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE),
)
async def collect_attempt(attempt_id: str, gateway: GatewayDep, deadline: PublishDeadline) -> CollectionAnswer:
    """Fetch the output of a paid run again, after the cause of the failure is fixed. This costs nothing.

    The files are stored with the attempt; the result of its job does not change.
    """
    found = await gateway.lookup.attempt(attempt_id, TENANT)
    attempt = found.attempt
    if attempt.state != "failed" or attempt.kind not in COLLECTABLE or not attempt.provider_ref:
        kinds = ", ".join(sorted(COLLECTABLE))
        detail = f"{_describe(found)}; an output can be fetched again where the attempt failed with {kinds}"
        raise Problem(HTTPStatus.CONFLICT, "nothing-to-collect", detail)
    message = CollectionRequested(
        job_id=JobId(found.job_id),
        occurred_at=gateway.clocks.now(),
        tenant=TENANT,
        attempt_id=found.attempt_id,
        provider=attempt.provider,
    )
    await gateway.publisher.publish_and_tail(message, deadline)
    text = f"{attempt.provider} is asked for the output of its run {attempt.provider_ref} again; nothing is paid for."
    return CollectionAnswer(attempt_id=found.attempt_id, job_id=found.job_id, message=text)


def _describe(found: AttemptOfJob) -> str:
    attempt = found.attempt
    kind = f" ({attempt.kind})" if attempt.kind else ""
    ref = f", as {attempt.provider_ref} at {attempt.provider}" if attempt.provider_ref else ""
    return f"the attempt is {attempt.state}{kind}{ref}"
