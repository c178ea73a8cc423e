"""Maps the exceptions of the queries, the intake and the signatures to problem documents."""

from __future__ import annotations

from functools import singledispatch
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request

from gateway.http.plain import PlainJSON
from gateway.http.problem_document import FieldProblem, Problem, SkippedProvider
from gateway.intake.errors import (
    ArrivedTooLate,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    JobUnreadable,
    ModelNotFound,
    NoRoute,
    NotConfirmed,
)
from gateway.queries.errors import NotFound, ReadModelUnavailable, TailBehind
from gateway.signatures.keys import KeysAway
from gateway.signatures.run_match import RunMismatch
from gateway.text import quoted

_RETRY_AFTER_S: Final = 5


def install(app: FastAPI) -> None:
    """Make `app` answer each exception that `problem_of` handles with its problem document."""
    for kind in problem_of.registry.keys() - {object}:
        app.add_exception_handler(kind, _answer)


async def _answer(_request: Request, error: Exception) -> PlainJSON:
    return answer_to(error)


def answer_to(error: Exception) -> PlainJSON:
    """The response for an exception. Raises the exception itself if `problem_of` does not handle it."""
    return problem_of(error).response()


@singledispatch
def problem_of(error: Exception) -> Problem:
    """The problem for an exception. Raises the exception itself if it is of none of the handled types."""
    raise error


@problem_of.register
def _(error: Problem) -> Problem:
    return error


@problem_of.register
def _(error: NotFound) -> Problem:
    detail = f"there is no {error.kind} {quoted(error.identifier)}"
    return Problem(HTTPStatus.NOT_FOUND, f"{error.kind}-not-found", detail)


@problem_of.register
def _(error: ReadModelUnavailable) -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "read-model-away",
        f"the database is unavailable, so {error.subject} cannot be read right now; nothing is lost",
        headers={"Retry-After": "2"},
    )


@problem_of.register
def _(error: TailBehind) -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "events-away",
        f"Kafka does not answer in time, so it is not known whether there is a {error.kind} {quoted(error.identifier)}",
        headers={"Retry-After": "2"},
    )


@problem_of.register
def _(error: InvalidIdempotencyKey) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "invalid-idempotency-key", str(error))


@problem_of.register
def _(_error: IdempotencyKeyReused) -> Problem:
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "this Idempotency-Key was already used for another request body; use a new key for a new request",
    )


@problem_of.register
def _(error: ModelNotFound) -> Problem:
    fault = FieldProblem(field="model", problem=str(error), value=quoted(error.model))
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "unknown-model", str(error), errors=[fault])


@problem_of.register
def _(error: NoRoute) -> Problem:
    routes = [SkippedProvider(provider=each.provider, model=each.model, reason=each.reason) for each in error.skipped]
    detail = "; ".join(f"{each.model} at {each.provider}: {each.reason}" for each in routes)
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "no-route",
        f"no route can serve the request: {detail or 'the named providers have no route to the model'}",
        routes=routes,
    )


@problem_of.register
def _(error: JobUnreadable) -> Problem:
    detail = (
        "the request has become a job, which the database does not return right now; nothing is lost, nothing new was "
        "requested, and repeating the request with the same Idempotency-Key is safe"
    )
    return _to_repeat("job-unreadable", detail, error.key)


@problem_of.register
def _(error: NotConfirmed) -> Problem:
    advice = "repeating it is safe"
    if error.key is not None:
        advice = "repeat it with the same Idempotency-Key, which is safe: it can only become the same job"
    detail = f"Kafka did not confirm the request in time, but may have stored it; {advice}"
    return _to_repeat("not-confirmed", detail, error.key)


@problem_of.register
def _(error: ArrivedTooLate) -> Problem:
    detail = (
        "by Kafka's clock the request arrived after its acceptance deadline, so it is not run and costs nothing; "
        "synchronize the clocks of the brokers, the database and this machine, and repeat the request with the same "
        "Idempotency-Key"
    )
    return _to_repeat("clocks-differ", detail, error.key)


@problem_of.register
def _(_error: KeysAway) -> Problem:
    detail = "the signature cannot be checked right now"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "signing-keys-away", detail)


@problem_of.register
def _(error: RunMismatch) -> Problem:
    run = f"the run {quoted(error.run)} is"
    if error.of_another_attempt:
        detail = f"{run} another attempt's; this address accepts only callbacks about its own run"
        return Problem(HTTPStatus.CONFLICT, "callback-of-another-attempt", detail)
    detail = f"{run} not this attempt's; this address accepts only callbacks about its own run"
    return Problem(HTTPStatus.CONFLICT, "callback-of-another-run", detail)


def _to_repeat(kind: str, detail: str, key: str | None) -> Problem:
    headers = {"Retry-After": str(_RETRY_AFTER_S)}
    if key is not None:
        headers["Idempotency-Key"] = key
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, kind, detail, headers=headers, idempotency_key=key)
