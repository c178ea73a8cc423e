"""JSON request bodies as parameters of endpoints: read within a size limit and validated by a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar

from fastapi import Request, params
from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from gateway.http.bodies import read_body
from gateway.http.problem_document import FieldProblem, Problem
from gateway.text import quoted

MAX_ERRORS: Final = 20
MAX_LISTED_ERRORS: Final = 2_000
"""Above this number only the count is reported: to list the errors of a body takes pydantic up to half a second."""

_JSON: Final = re.compile(r"^application/(?:[\w.+-]+\+)?json$")
_CHARSET: Final = re.compile(r"charset\s*=\s*\"?([^\s\";]*)", re.IGNORECASE)
# ASCII is a subset of UTF-8.
_UTF_8: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_NO_NUL: Final = r"^[^\x00]*$"
_LIMITS: Final = ("ge", "gt", "le", "lt", "min_length", "max_length", "expected", "pattern")
# Longer ones first: the byte order mark of UTF-32 starts with that of UTF-16.
_SIGNATURES: Final = (
    (b"\xef\xbb\xbf", "it starts with a byte order mark of UTF-8 (EF BB BF), which has no place in JSON"),
    (b"\xff\xfe\x00\x00", "it starts with a byte order mark of UTF-32 (FF FE 00 00)"),
    (b"\x00\x00\xfe\xff", "it starts with a byte order mark of UTF-32 (00 00 FE FF)"),
    (b"\xff\xfe", "it starts with a byte order mark of UTF-16 (FF FE)"),
    (b"\xfe\xff", "it starts with a byte order mark of UTF-16 (FE FF)"),
    (b"\x1f\x8b", "it is compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd"),
    (b"\x78\x01", "it is compressed with deflate"),
    (b"\x78\x9c", "it is compressed with deflate"),
    (b"\x78\xda", "it is compressed with deflate"),
)

M = TypeVar("M", bound=BaseModel)
Faults = Callable[[type[BaseModel], Sequence[ErrorDetails]], list[FieldProblem]]
"""Makes field problems, at least one, from pydantic's validation errors of a body."""


def json_body(
    model: type[M],
    max_bytes: int,
    *,
    faults: Faults | None = None,
    examples: Mapping[str, JsonValue] | None = None,
) -> params.Depends:
    """The FastAPI dependency that returns the request's body as `model`; it is also a part of the OpenAPI document.

    It raises Problem: 415 for a content type other than JSON, 413 for a body larger than `max_bytes`, 400 for a body
    that is not JSON, 422 with the result of `faults` for an invalid one. `examples` are the OpenAPI examples by name.
    """
    return params.Depends(JsonBody(model, max_bytes, faults=faults, examples=examples).read)


class JsonBody(Generic[M]):
    """Reads and validates the JSON bodies of one endpoint."""

    def __init__(
        self,
        model: type[M],
        max_bytes: int,
        *,
        faults: Faults | None = None,
        examples: Mapping[str, JsonValue] | None = None,
    ) -> None:
        self.model = model
        self.examples = examples or {}
        self._max_bytes = max_bytes
        self._faults = faults or field_faults

    async def read(self, request: Request) -> M:
        """The validated body of a request. Raises Problem, as `json_body` says."""
        # All values of a repeated header count, not only the first.
        require_json(", ".join(request.headers.getlist("content-type")))
        return parse_json(self.model, await read_body(request, self._max_bytes), self._faults)


def require_json(content_type: str | None) -> None:
    """Check that a body of this content type can be JSON in UTF-8. Raises Problem (415) if not."""
    kind, _, parameters = (content_type or "").partition(";")
    charsets = [charset.lower() for charset in _CHARSET.findall(parameters)]
    if not _JSON.match(kind.strip().lower()) or not set(charsets) <= _UTF_8:
        detail = f"the body has to be application/json in UTF-8, not {quoted(content_type or 'of no declared type')}"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)


def field_faults(model: type[BaseModel], errors: Sequence[ErrorDetails]) -> list[FieldProblem]:
    """The problem of each invalid field with the violated limit and the value, 20 at most."""
    parents = {each["loc"][:-1] for each in errors}
    # pydantic also reports a list with an invalid entry as too short; the problem of the entry is enough.
    relevant = [each for each in errors if not (each["type"] == "too_short" and each["loc"] in parents)]
    return [_fault(model, each) for each in relevant[:MAX_ERRORS]]


def parse_json(model: type[M], raw: bytes, faults: Faults = field_faults) -> M:
    """The body as `model`. Raises Problem: 400 if it is not JSON, 422 with the result of `faults` if it is invalid."""
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        if (count := error.error_count()) > MAX_LISTED_ERRORS:
            raise _invalid([FieldProblem(field="body", problem=f"has {count} invalid fields")]) from None
        errors = error.errors(include_url=False)
    if errors[0]["type"] == "json_invalid":
        raise not_json(raw, errors[0]["msg"].removeprefix("Invalid JSON: "))
    raise _invalid(faults(model, errors))


def _invalid(found: list[FieldProblem]) -> Problem:
    first = f"{found[0].field}: {found[0].problem}"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", first, errors=found)


def not_json(raw: bytes, reason: str) -> Problem:
    """The problem (400) that a body is not JSON in UTF-8: `reason`, or what its first bytes reveal."""
    revealed = next((what for start, what in _SIGNATURES if raw.startswith(start)), None)
    if revealed is None and b"\x00" in raw[:4]:
        revealed = "it looks like UTF-16 or UTF-32 (there is a 0 byte among the first four)"
    return Problem(HTTPStatus.BAD_REQUEST, "malformed-json", f"the body is not JSON in UTF-8: {revealed or reason}")


def field_name(loc: Sequence[int | str]) -> str:
    """The path of a field in a body, such as providers.0; "body" for the whole."""
    return ".".join(quoted(part) if isinstance(part, str) else str(part) for part in loc) or "body"


def _fault(model: type[BaseModel], error: ErrorDetails) -> FieldProblem:
    context: Mapping[str, Any] = error.get("ctx") or {}
    kind = error["type"]
    limit = {name: context[name] for name in _LIMITS if isinstance(context.get(name), str | int | float)}
    match kind:
        case "extra_forbidden":
            problem = f"there is no such field; the fields are {', '.join(sorted(model.model_fields))}"
        case "string_pattern_mismatch" if context.get("pattern") == _NO_NUL:
            problem, limit = "must not contain NUL characters", {}
        case "value_error":
            problem = str(context.get("error", error["msg"]))
        case "missing":
            problem = "is required"
        case _:
            problem = re.sub(r"^(Input|String|Tuple|Dictionary) should", "should", error["msg"])
    given = error["input"]
    # Objects and lists are not quoted: they may be large, and the field's name is enough.
    value = None if kind == "missing" or isinstance(given, dict | list) else quoted(given)
    field = field_name([part for part in error["loc"] if part != "[key]"][:6])
    return FieldProblem(field=field, problem=problem, limit=limit or None, value=value)
