"""Reports of the problems in a YAML file, each with its line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from contracts.catalogue import yaml_lines
from contracts.catalogue.yaml_lines import Problem

Located = tuple[yaml_lines.Path, str]
"""The path of a problem in the file's data, and its description."""


def report(path: Path, problems: list[Problem]) -> str:
    """One line for each problem, in the order of the file: `models.yaml:LINE: problem`."""
    ordered = sorted(set(problems), key=lambda each: (each.line, each.what))
    return "\n".join(f"{path.name}:{each.line}: {each.what}" for each in ordered)


def located_errors(where: yaml_lines.Path, error: ValidationError) -> Iterator[Located]:
    """The errors that pydantic found in the data at `where`, each with its path and a description."""
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
