"""How the API says no: every error is an `application/problem+json` document (RFC 9457), without anything internal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ConfigDict, Field
from starlette.exceptions import HTTPException

from gateway.http.plain import Answer, PlainJSON
from gateway.text import shown

MEDIA_TYPE: Final = "application/problem+json"

Responses = dict[int | str, dict[str, Any]]


class FieldProblem(Answer):
    """One field of a request that cannot be taken."""

    field: str = Field(description="Where in the request, as in providers.0")
    problem: str = Field(description="What is wrong with it.")
    limit: dict[str, str | int | float] | None = Field(default=None, description="The limit it broke.")
    value: str | None = Field(default=None, description="What was sent, cut to 100 characters.")


class SkippedProvider(Answer):
    """A way to make what was asked, and why it cannot be taken."""

    provider: str
    model: str
    reason: str


class ProblemDocument(Answer):
    """An error, as RFC 9457 shapes it."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Which kind of problem; stable, for programs.")
    title: str = Field(description="The kind of problem in words.")
    status: int
    detail: str = Field(description="What happened this time, for people.")
    errors: list[FieldProblem] | None = None
    routes: list[SkippedProvider] | None = None
    expired_at: datetime | None = Field(default=None, description="When the file was deleted.")
    kept_days: float | None = Field(default=None, description="The rule by which it was: for how long files are kept.")
    idempotency_key: str | None = Field(default=None, description="Repeat the request with this Idempotency-Key.")


class Problem(Exception):
    """Ends a request with an error document."""

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> PlainJSON:
        """The document as it is sent."""
        document = ProblemDocument(
            type=f"urn:segue:problem:{self.kind}",
            title=self.kind.replace("-", " ").capitalize(),
            status=self.status,
            detail=self.detail,
            **self.members,
        )
        return PlainJSON(
            document.model_dump(mode="json", exclude_none=True),
            self.status,
            headers=self.headers,
            media_type=MEDIA_TYPE,
        )


def internal_error() -> Problem:
    """Something broke in here; what it was is in the logs, under the trace id, and nowhere else."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", "the gateway failed on this request; its log says why"
    )


def documented(*statuses: HTTPStatus) -> Responses:
    """The OpenAPI responses for the errors that a call can answer."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    return {
        int(status): {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }


def install(app: FastAPI) -> None:
    """Have `app` answer the errors of Starlette and FastAPI as problems."""
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_invalid)


async def _answer_http(request: Request, error: Exception) -> PlainJSON:
    assert isinstance(error, HTTPException)  # noqa: S101 - it was registered for no other
    status = HTTPStatus(error.status_code)
    details = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {shown(request.url.path)}",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{shown(request.method)} is not possible here",
    }
    kind = status.phrase.lower().replace(" ", "-")
    return Problem(status, kind, details.get(status, status.phrase), headers=error.headers).response()


async def _answer_invalid(_request: Request, error: Exception) -> PlainJSON:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it was registered for no other
    problems = [
        FieldProblem(
            field=".".join(map(str, each["loc"][1:])) or "query",
            problem=each["msg"],
            value=shown(each["input"]) if isinstance(each.get("input"), str | int | float) else None,
        )
        for each in error.errors()
    ]
    first = f"{problems[0].field}: {problems[0].problem}" if problems else "the request is not valid"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", first, errors=problems).response()
