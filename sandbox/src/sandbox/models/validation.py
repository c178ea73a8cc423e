"""Each provider's answer to invalid input of a model."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from sandbox.http.responses import Reply, replicate_problem
from sandbox.models.endpoints import Endpoint

_TYPES = {
    "string_type": "string", "int_type": "integer", "int_from_float": "integer", "float_type": "number",
    "bool_type": "boolean",
}  # fmt: skip
_BOUNDS = {
    "string_too_short": ("string_gte", "String length must be greater than or equal to {min_length}"),
    "string_too_long": ("string_lte", "String length must be less than or equal to {max_length}"),
    "greater_than_equal": ("number_gte", "Must be greater than or equal to {ge}"),
    "less_than_equal": ("number_lte", "Must be less than or equal to {le}"),
    "literal_error": ("enum", "Must be one of the following: {expected}"),
    "string_pattern_mismatch": ("pattern", "Does not match pattern '{pattern}'"),
}


def check_input(endpoint: Endpoint, given: Any) -> BaseModel | Reply:
    """The validated input, or the provider's 422 in its own form."""
    try:
        accepted = endpoint.accepts.model_validate(given)
    except ValidationError as error:
        errors: list[dict[str, Any]] = [dict(each) for each in error.errors(include_url=False)]
        return _fal_reply(errors) if endpoint.provider == "fal" else _replicate_reply(errors)
    needs_one = {"prompt", "composition_plan"} <= set(type(accepted).model_fields)
    if needs_one and not (getattr(accepted, "prompt", None) or getattr(accepted, "composition_plan", None)):
        where = {"loc": ("body", "prompt"), "msg": "Provide a prompt or a composition plan", "type": "value_error"}
        return Reply(422, {"detail": [where | {"input": given}]}, {"x-fal-retryable": "false"})
    return accepted


def _fal_reply(errors: Sequence[Mapping[str, Any]]) -> Reply:
    detail = [
        {
            "loc": ["body", *error["loc"]],
            "msg": error["msg"],
            "type": error["type"],
            "url": f"https://docs.fal.ai/errors#{error['type']}",
            "ctx": error.get("ctx", {}),
            "input": error["input"],
        }
        for error in errors
    ]
    return Reply(422, {"detail": detail}, {"x-fal-retryable": "false"})


def _replicate_reply(errors: Sequence[Mapping[str, Any]]) -> Reply:
    fields = [_replicate_field(error) for error in errors]
    detail = "".join(f"- {field['field']}: {field['description']}\n" for field in fields)
    return replicate_problem(422, "Input validation failed", detail, invalid_fields=fields)


def _replicate_field(error: Mapping[str, Any]) -> dict[str, str]:
    name, kind = ".".join(map(str, error["loc"])), error["type"]
    if kind == "missing":
        return {"type": "required", "field": "input", "description": f"{name} is required"}
    field = f"input.{name}" if name else "input"
    if kind in _BOUNDS:
        short, text = _BOUNDS[kind]
        return {"type": short, "field": field, "description": text.format(**error.get("ctx", {}))}
    if kind in _TYPES:
        wanted = f"Invalid type. Expected: {_TYPES[kind]}, given: {_json_type(error['input'])}"
        return {"type": "invalid_type", "field": field, "description": wanted}
    return {"type": kind, "field": field, "description": error["msg"]}


def _json_type(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")
