"""JSON Schemas of the messages, and the changes of a schema that break consumers of its older version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from contracts.messages.base import Message

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kind: type[Message]) -> Schema:
    """The JSON Schema of a message's body; fields with a default may be missing."""
    return {"$schema": DIALECT, "$id": f"urn:segue:schema:{kind.TYPE}", **kind.model_json_schema()}


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """The changes in `new` that break a consumer of `old`, or reject messages valid under `old`, as `where: what`.

    Allowed are new optional fields, further values of an enum, wider limits and further kinds of object in a union;
    these are rolled out to consumers before producers.
    """
    return list(dict.fromkeys(_Comparison(old, new).of(old, new, "", frozenset())))


_LIMITS: Final = {
    "minimum": 1,
    "exclusiveMinimum": 1,
    "minLength": 1,
    "minItems": 1,
    "minProperties": 1,
    "maximum": -1,
    "exclusiveMaximum": -1,
    "maxLength": -1,
    "maxItems": -1,
    "maxProperties": -1,
}
"""The sign of a change that makes a limit stricter."""


class _Comparison:
    def __init__(self, old: Schema, new: Schema) -> None:
        self._old_root, self._new_root = old, new

    def of(self, old: Schema, new: Schema, where: str, seen: frozenset[tuple[str, str]]) -> Iterator[str]:
        pair = (old.get("$ref", ""), new.get("$ref", ""))
        if pair != ("", "") and pair in seen:
            return
        seen |= {pair}
        before = _alternatives(old, self._old_root)
        after = _alternatives(new, self._new_root)
        for name in sorted(before.keys() - after.keys()):
            yield f"{where or 'body'}: no longer {name}"
        if "anything" not in before:
            for name in sorted(after.keys() - before.keys()):
                if not name.startswith("object "):
                    yield f"{where or 'body'}: may now be {name}"
        for name in sorted(before.keys() & after.keys()):
            yield from self._same_kind(before[name], after[name], where, seen)

    def _same_kind(self, old: Schema, new: Schema, where: str, seen: frozenset[tuple[str, str]]) -> Iterator[str]:
        yield from (f"{where or 'body'}: {what}" for what in _narrowed(old, new))
        yield from (f"{where or 'body'}: {what}" for what in _fields(old, new))
        for name in sorted(_properties(old).keys() & _properties(new).keys()):
            inner = f"{where}.{name}" if where else name
            yield from self.of(_properties(old)[name], _properties(new)[name], inner, seen)
        for key, mark in (("items", "[]"), ("additionalProperties", ".*"), ("propertyNames", " (key)")):
            if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
                yield from self.of(old[key], new[key], where + mark, seen)
            elif isinstance(new.get(key), dict) and new[key] and old.get(key) is not False:
                yield f"{where or 'body'}: {key} now limited"


def _alternatives(schema: Schema, root: Schema) -> dict[str, Schema]:
    """The alternatives of a schema, by names that are the same in all versions."""
    schema = _resolved(schema, root)
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        found: dict[str, Schema] = {}
        for branch in branches:
            found |= _alternatives(branch, root)
        return found
    kinds = schema.get("type")
    if not kinds:
        return {"anything": schema}
    return {_name(kind, schema): schema for kind in ([kinds] if isinstance(kinds, str) else kinds)}


def _name(kind: str, schema: Schema) -> str:
    if kind != "object":
        return kind
    modality = _properties(schema).get("modality", {}).get("const")
    return f"object {modality}" if modality else "object"


def _resolved(schema: Schema, root: Schema) -> Schema:
    for _ in range(10):
        reference = schema.get("$ref")
        if reference is None:
            return schema
        target: Any = root
        for step in str(reference).removeprefix("#/").split("/"):
            target = target[step]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    raise ValueError(f"$ref is circular: {schema['$ref']}")


def _properties(schema: Schema) -> dict[str, Schema]:
    properties: dict[str, Schema] = schema.get("properties", {})
    return properties


def _fields(old: Schema, new: Schema) -> Iterator[str]:
    before, after = _properties(old), _properties(new)
    must_before, must_after = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(before.keys() - after.keys()):
        yield f"field {name!r} removed"
    for name in sorted(must_after - must_before):
        yield f"field {name!r} {'now required' if name in before else 'is new and required'}"
    for name in sorted((must_before - must_after) & after.keys()):
        yield f"field {name!r} no longer required"
    for name in sorted((before.keys() & after.keys()) - must_after):
        if before[name].get("default") != after[name].get("default") and name not in must_before:
            yield f"field {name!r} has another default"
    if new.get("additionalProperties") is False and old.get("additionalProperties") is not False and before:
        yield "unknown fields are now refused"


def _narrowed(old: Schema, new: Schema) -> Iterator[str]:
    if (gone := _gone(_values(old), _values(new))) is not None:
        yield f"no longer takes {gone}"
    for key, sign in _LIMITS.items():
        if key in new and (key not in old or (new[key] - old[key]) * sign > 0):
            yield f"{key} tightened from {old.get(key, 'none')} to {new[key]}"
    for key in ("pattern", "format", "multipleOf", "uniqueItems"):
        if key in new and new[key] != old.get(key):
            yield f"{key} tightened from {old.get(key, 'none')} to {new[key]}"


def _values(schema: Schema) -> list[Any] | None:
    values: list[Any] | None = [schema["const"]] if "const" in schema else schema.get("enum")
    return values


def _gone(before: Iterable[Any] | None, after: list[Any] | None) -> str | None:
    if after is None:
        return None
    if before is None:
        return f"anything but {', '.join(map(repr, after))}"
    gone = [value for value in before if value not in after]
    return ", ".join(map(repr, gone)) or None
