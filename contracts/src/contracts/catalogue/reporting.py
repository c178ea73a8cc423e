"""How what is wrong in a YAML file is told: each problem with its line, in words for whoever edits the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from contracts.catalogue import yaml_lines
from contracts.catalogue.yaml_lines import Problem

Located = tuple[yaml_lines.Path, str]
"""A problem, and where in the file's data it is."""


def report(path: Path, problems: list[Problem]) -> str:
    """One line a problem, in the file's order: `models.yaml:LINE: what`."""
    ordered = sorted(set(problems), key=lambda each: (each.line, each.what))
    return "\n".join(f"{path.name}:{each.line}: {each.what}" for each in ordered)


def in_words(where: yaml_lines.Path, error: ValidationError) -> Iterator[Located]:
    """What pydantic found wrong in the data at `where`."""
    for each in error.errors(include_url=False):
        loc = each["loc"]
        part = _name_of(loc)
        match each["type"]:
            case "unexpected_keyword_argument":
                what = f"unknown key {part}"
            case "missing":
                what = f"{part} is missing"
            case "value_error":
                what = f"{part} {each['msg'].removeprefix('Value error, ')}"
            case _:
                what = f"{part}: {each['msg']}"
        yield (*where, *loc), what


def _name_of(loc: tuple[str | int, ...]) -> str:
    match loc:
        case ():
            return "the file"
        case (*_, str(key), "[key]"):
            return repr(key)
        case (*_, str(key), int(index)):
            return f"{key}[{index}]"
        case _:
            return str(loc[-1])
