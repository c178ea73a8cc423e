"""The published schemas: they match the code, and no change within a major version breaks a consumer."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from contracts.documents.generate import repository, stale, write
from contracts.documents.schemas import Schema, breaking_changes, schema_of
from contracts.topics import MESSAGE_TYPES

OLD: Schema = {
    "type": "object",
    "required": ["id", "kind"],
    "properties": {
        "id": {"type": "string", "maxLength": 10, "pattern": "^a"},
        "kind": {"$ref": "#/$defs/Kind"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}, "minItems": 1},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"maxLength": 9}},
        "input": {"oneOf": [{"$ref": "#/$defs/Music"}]},
        "free": {},
    },
    "$defs": {
        "Kind": {"type": "string", "enum": ["a", "b"]},
        "Part": {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]},
        "Music": {"type": "object", "properties": {"modality": {"const": "music", "type": "string"}}},
        "Image": {"type": "object", "properties": {"modality": {"const": "image", "type": "string"}}},
    },
}


def changed(path: str, value: object) -> Schema:
    """OLD with another value at the path; `...` removes it."""
    schema: Schema = json.loads(json.dumps(OLD))
    at: Any = schema
    *way, last = path.split("/")
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return schema


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("properties/note", ..., "body: field 'note' removed"),
        ("required", ["id", "kind", "note"], "body: field 'note' now required"),
        ("required", ["id"], "body: field 'kind' no longer required"),
        ("properties/note", {"type": "string", "default": None}, "note: no longer null"),
        ("properties/id", {"type": "integer"}, "id: no longer string"),
        ("properties/id/type", ["string", "null"], "id: may now be null"),
        ("properties/count/type", "number", "count: may now be number"),
        ("properties/id/maxLength", 9, "id: maxLength tightened from 10 to 9"),
        ("properties/id/minLength", 1, "id: minLength tightened from none to 1"),
        ("properties/id/pattern", "^b", "id: pattern tightened from ^a to ^b"),
        ("properties/id/format", "uuid", "id: format tightened from none to uuid"),
        ("properties/count/minimum", 2, "count: minimum tightened from 1 to 2"),
        ("properties/count/maximum", 8, "count: maximum tightened from 9 to 8"),
        ("properties/count/multipleOf", 2, "count: multipleOf tightened from none to 2"),
        ("properties/count/default", 2, "body: field 'count' has another default"),
        ("properties/parts/minItems", 2, "parts: minItems tightened from 1 to 2"),
        ("properties/labels/additionalProperties/type", "integer", "labels.*: no longer string"),
        ("properties/labels/propertyNames/maxLength", 8, "labels (key): maxLength tightened from 9 to 8"),
        ("properties/free", {"type": "string"}, "free: no longer anything"),
        ("additionalProperties", False, "body: unknown fields are now refused"),
        ("$defs/Kind/enum", ["a"], "kind: no longer takes 'b'"),
        ("$defs/Kind", {"type": "string", "const": "a"}, "kind: no longer takes 'b'"),
        ("properties/id/enum", ["a1"], "id: no longer takes anything but 'a1'"),
        ("$defs/Part/properties/size", ..., "parts[]: field 'size' removed"),
        ("$defs/Part/properties/size/maximum", 5, "parts[].size: maximum tightened from none to 5"),
        ("properties/input/oneOf", [{"$ref": "#/$defs/Image"}], "input: no longer object music"),
    ],
)
def test_each_kind_of_breaking_change_is_found(path: str, value: object, found: str) -> None:
    assert found in breaking_changes(OLD, changed(path, value))


def test_a_new_required_field_is_found() -> None:
    new = changed("properties/extra", {"type": "string"})
    new["required"] = [*new["required"], "extra"]
    assert breaking_changes(OLD, new) == ["body: field 'extra' is new and required"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties/extra", {"type": "string", "default": "x"}),
        ("properties/extra", {"anyOf": [{"$ref": "#/$defs/Part"}, {"type": "null"}], "default": None}),
        ("properties/id/description", "Another description."),
        ("properties/id/title", "Id"),
        ("properties/id/maxLength", 11),
        ("properties/id/maxLength", ...),
        ("properties/id/pattern", ...),
        ("properties/count/minimum", 0),
        ("properties/parts/minItems", ...),
        ("$defs/Kind/enum", ["a", "b", "c"]),
        ("$defs/Kind/enum", ["b", "a"]),
        ("properties/kind", {"type": "string", "enum": ["a", "b"]}),
        ("$defs/Part/properties/extra", {"type": "string"}),
        ("properties/input/oneOf", [{"$ref": "#/$defs/Music"}, {"$ref": "#/$defs/Image"}]),
        ("properties/note", {"type": ["string", "null"], "default": None}),
    ],
)
def test_additive_changes_pass(path: str, value: object) -> None:
    new = changed(path, value)
    assert new != OLD
    assert breaking_changes(OLD, new) == []


def test_a_schema_that_contains_itself_is_compared() -> None:
    node: Schema = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "x": {"type": "string"}}}
    old: Schema = {"$ref": "#/$defs/Node", "$defs": {"Node": node}}
    new: Schema = json.loads(json.dumps(old))
    del new["$defs"]["Node"]["properties"]["x"]
    assert breaking_changes(old, old) == []
    assert breaking_changes(old, new) == ["body: field 'x' removed"]


def test_the_committed_files_are_what_the_code_generates() -> None:
    assert stale(repository()) == [], "run: python -m contracts.documents.generate"


def test_stale_files_are_found_and_replaced(tmp_path: Path) -> None:
    write(tmp_path)
    assert stale(tmp_path) == []
    schemas = tmp_path / "contracts" / "schemas"
    (schemas / "segue.job.failed.v1.json").write_text("{}")
    (schemas / "segue.job.started.v1.json").unlink()
    (schemas / "segue.job.forgotten.v1.json").write_text("{}")
    assert [Path(name).name for name in stale(tmp_path)] == [
        "segue.job.failed.v1.json",
        "segue.job.forgotten.v1.json",
        "segue.job.started.v1.json",
    ]
    write(tmp_path)
    assert stale(tmp_path) == []


def published() -> dict[str, Schema]:
    """The published schemas: of the last release, or else of the last commit, or else those in the folder."""
    root = repository()
    for reference in _references(root):
        listing = _git(root, "ls-tree", "-r", "--name-only", reference, "contracts/schemas/") or ""
        if names := listing.split():
            return {Path(name).stem: json.loads(_git(root, "show", f"{reference}:{name}") or "") for name in names}
    return {path.stem: json.loads(path.read_text()) for path in (root / "contracts" / "schemas").glob("*.json")}


def _references(root: Path) -> list[str]:
    tag = _git(root, "describe", "--tags", "--abbrev=0")
    return [tag.strip(), "HEAD"] if tag else ["HEAD"]


def _git(root: Path, *arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def test_no_published_schema_is_broken() -> None:
    base = published()
    assert base
    broken = {
        name: breaking_changes(old, schema_of(MESSAGE_TYPES[name])) if name in MESSAGE_TYPES else ["is gone"]
        for name, old in base.items()
    }
    assert {name: changes for name, changes in broken.items() if changes} == {}, "a new major version is needed"
