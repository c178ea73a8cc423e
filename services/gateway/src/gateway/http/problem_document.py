"""Error responses: every error is an `application/problem+json` document (RFC 9457) without internal details."""

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
from gateway.text import quoted

MEDIA_TYPE: Final = "application/problem+json"

Responses = dict[int | str, dict[str, Any]]


class FieldProblem(Answer):
    """One invalid field of a request."""

    field: str = Field(description="The path of the field in the request, such as providers.0.")
    problem: str = Field(description="Why the field is invalid.")
    limit: dict[str, str | int | float] | None = Field(default=None, description="The limit that the value violates.")
    value: str | None = Field(default=None, description="The value of the field, cut to 100 characters.")


class SkippedProvider(Answer):
    """A route that cannot serve the request, with the reason."""

    provider: str
    model: str
    reason: str


class ProblemDocument(Answer):
    """An error, as RFC 9457 defines it."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="The kind of problem, as a stable URI for programs.")
    title: str = Field(description="The kind of problem, for people.")
    status: int
    detail: str = Field(description="What went wrong with this request, for people.")
    errors: list[FieldProblem] | None = None
    routes: list[SkippedProvider] | None = None
    expired_at: datetime | None = Field(default=None, description="When the file was deleted.")
    kept_days: float | None = Field(default=None, description="The retention period of files, in days.")
    idempotency_key: str | None = Field(default=None, description="Repeat the request with this Idempotency-Key.")


class Problem(Exception):
    """An error that is answered with a problem document.

    `kind` is the last part of the document's `type`; `members` are its additional members.
    """

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
        """The response with the document."""
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
    """The problem (500) for an unexpected exception, which only the log describes."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", "the gateway failed on this request; see its log"
    )


def documented(*statuses: HTTPStatus) -> Responses:
    """The OpenAPI responses for these error statuses of an endpoint."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    return {
        int(status): {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }


def install(app: FastAPI) -> None:
    """Make `app` answer the errors of Starlette and FastAPI with problem documents."""
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_invalid)


async def _answer_http(request: Request, error: Exception) -> PlainJSON:
    assert isinstance(error, HTTPException)  # noqa: S101 - the only type it is registered for
    status = HTTPStatus(error.status_code)
    details = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {quoted(request.url.path)}",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{quoted(request.method)} is not supported at this address",
    }
    kind = status.phrase.lower().replace(" ", "-")
    return Problem(status, kind, details.get(status, status.phrase), headers=error.headers).response()


async def _answer_invalid(_request: Request, error: Exception) -> PlainJSON:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the only type it is registered for
    problems = [
        FieldProblem(
            field=".".join(map(str, each["loc"][1:])) or "query",
            problem=each["msg"],
            value=quoted(each["input"]) if isinstance(each.get("input"), str | int | float) else None,
        )
        for each in error.errors()
    ]
    first = f"{problems[0].field}: {problems[0].problem}" if problems else "the request is not valid"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", first, errors=problems).response()
