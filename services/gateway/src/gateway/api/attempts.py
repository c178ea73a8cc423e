"""`/api/attempts`: single tries, and an operator's word on those of which nobody knows whether they were accepted."""

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

MAX_BODY_BYTES: Final = 4096
_MISSING = documented(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
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
    """What an operator found at the provider: exactly one of the two."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"minProperties": 1, "maxProperties": 1, "examples": [{"accepted": "r8x2k"}]}
    )

    accepted: str = Field(default="", pattern=PROVIDER_REF, description="It runs there, or did, under this id.")
    never_accepted: bool = Field(
        default=False, description="It is not there, and nothing was billed.", json_schema_extra={"const": True}
    )

    @model_validator(mode="after")
    def _is_one_verdict(self) -> Self:
        if len(self.model_fields_set) != 1 or not (self.accepted or self.never_accepted):
            raise ValueError('say exactly one of {"accepted": "<the run\'s id>"} and {"never_accepted": true}')
        return self


def _first_fault(_model: type[BaseModel], errors: Sequence[ErrorDetails]) -> list[FieldProblem]:
    # A verdict is one field: more faults than the first would only repeat that.
    first = errors[0]
    problem = {
        "string_pattern_mismatch": "has to be the id of a run: 1 to 100 letters, digits, hyphens and underscores",
        "extra_forbidden": "there is no such field; there is accepted, never_accepted",
    }.get(first["type"], str(first.get("ctx", {}).get("error", first["msg"])))
    value = quoted(first["input"]) if isinstance(first["input"], str) else None
    return [FieldProblem(field=field_name(first["loc"][:3]), problem=problem, value=value)]


@router.get("", responses=documented(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE))
async def list_attempts(
    here: GatewayDep,
    ambiguous: Annotated[
        bool, Query(description="Only those of which nobody knows whether their provider accepted them.")
    ] = False,
    provider: Provider | None = None,
    cursor: CursorText = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> AttemptPage:
    """The attempts, the newest first."""
    found = await here.lookup.attempts(TENANT, provider, cursor_of(cursor), limit, ambiguous=ambiguous)
    after = cursor_text(found[-1].first_at, found[-1].attempt_id) if len(found) == limit else None
    return AttemptPage(attempts=[operators_attempt(each, here.catalogue) for each in found], next_cursor=after)


@router.get("/{attempt_id}", responses=_MISSING)
async def get_attempt(attempt_id: str, here: GatewayDep) -> OperatorsAttempt:
    """One attempt, with what it takes to find its run at the provider."""
    return operators_attempt(await here.lookup.attempt(attempt_id, TENANT), here.catalogue)


@router.post("/{attempt_id}/resolve", status_code=202, responses=_REFUSALS)
async def resolve_attempt(
    attempt_id: str,
    here: GatewayDep,
    deadline: PublishDeadline,
    verdict: Annotated[Resolution, json_body(Resolution, MAX_BODY_BYTES, faults=_first_fault)],
) -> ResolutionAnswer:
    """Say what became of a submit whose answer was lost: it runs under this id, or it was never accepted.

    One that counts as never accepted for want of evidence can still be found.
    """
    found = await here.lookup.attempt(attempt_id, TENANT)
    provider_ref = verdict.accepted or None
    if not found.ambiguous and not (provider_ref and found.attempt.kind == FailureKind.NEVER_ACCEPTED):
        raise Problem(HTTPStatus.CONFLICT, "attempt-not-ambiguous", _what_it_is(found))
    if provider_ref is not None and await here.lookup.other_of_run(found, provider_ref) is not None:
        detail = f"{found.attempt.provider}'s run {provider_ref} is another attempt's; two can never have one run"
        raise Problem(HTTPStatus.CONFLICT, "run-of-another-attempt", detail)
    message = ResolutionRequested(
        job_id=JobId(found.job_id),
        occurred_at=here.clocks.now(),
        tenant=TENANT,
        attempt_id=found.attempt_id,
        provider=found.attempt.provider,
        provider_ref=provider_ref,
    )
    await here.publisher.publish_and_tail(message, deadline)
    return ResolutionAnswer(attempt_id=found.attempt_id, job_id=found.job_id, message=what_follows(found, provider_ref))


@router.post(
    "/{attempt_id}/collect",
    status_code=202,
    responses=documented(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE),
)
async def collect_attempt(attempt_id: str, here: GatewayDep, deadline: PublishDeadline) -> CollectionAnswer:
    """Fetch the output of a paid run again, after what had prevented it is mended. Nothing is paid for.

    What is fetched is kept on the attempt; its job stays as it ended.
    """
    found = await here.lookup.attempt(attempt_id, TENANT)
    attempt = found.attempt
    if attempt.state != "failed" or attempt.kind not in COLLECTABLE or not attempt.provider_ref:
        kinds = ", ".join(sorted(COLLECTABLE))
        detail = f"{_what_it_is(found)}; an output can be fetched again where the attempt failed with {kinds}"
        raise Problem(HTTPStatus.CONFLICT, "nothing-to-collect", detail)
    message = CollectionRequested(
        job_id=JobId(found.job_id),
        occurred_at=here.clocks.now(),
        tenant=TENANT,
        attempt_id=found.attempt_id,
        provider=attempt.provider,
    )
    await here.publisher.publish_and_tail(message, deadline)
    told = f"{attempt.provider} is asked for the output of its run {attempt.provider_ref} again; nothing is paid for."
    return CollectionAnswer(attempt_id=found.attempt_id, job_id=found.job_id, message=told)


def _what_it_is(found: AttemptOfJob) -> str:
    attempt = found.attempt
    kind = f" ({attempt.kind})" if attempt.kind else ""
    ref = f", as {attempt.provider_ref} at {attempt.provider}" if attempt.provider_ref else ""
    return f"nothing is open about this attempt: it is {attempt.state}{kind}{ref}"
