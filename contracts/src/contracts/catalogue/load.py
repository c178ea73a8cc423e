"""Reads `catalogue/models.yaml` and reports every problem in it with its line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from contracts.catalogue import yaml_lines
from contracts.catalogue.entries import (
    CatalogueFile,
    ModelEntry,
    default_problems,
    modality_of,
    route_problems,
)
from contracts.catalogue.plan import Catalogue, Model
from contracts.catalogue.reporting import Located, located_errors, report
from contracts.catalogue.yaml_lines import Problem


class CatalogueError(Exception):
    """The catalogue cannot be used; the message has one line for each problem."""


_FILE: Final = TypeAdapter(CatalogueFile)
_MODEL: Final = TypeAdapter(ModelEntry)


def default_catalogue_path() -> Path:
    """The path of the repository's `catalogue/models.yaml`. Raises CatalogueError if there is no such file."""
    path = Path(__file__).resolve().parents[4] / "catalogue" / "models.yaml"
    if not path.is_file():
        raise CatalogueError("no catalogue beside the code: set SEGUE_CATALOGUE to the path of a models.yaml")
    return path


def load_catalogue(path: Path) -> Catalogue:
    """The catalogue in a file. Raises CatalogueError, with a line `models.yaml:LINE: problem` for each problem."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CatalogueError(f"SEGUE_CATALOGUE: {path} can't be read: {error.strerror}") from None
    parsed = yaml_lines.parse(raw)
    if isinstance(parsed, Problem):
        raise CatalogueError(report(path, [parsed]))
    located: list[Located] = []
    catalogue = _catalogue(parsed.data, located)
    problems = [*parsed.problems, *(Problem(parsed.line_of(where), what) for where, what in located)]
    if catalogue is None or problems:
        raise CatalogueError(report(path, problems))
    return catalogue


def _catalogue(data: object, problems: list[Located]) -> Catalogue | None:
    try:
        file = _FILE.validate_python(data)
    except ValidationError as error:
        problems.extend(located_errors((), error))
        # The models are validated all the same, so that one run reports every problem.
        models = data.get("models") if isinstance(data, dict) else None
        _models(models if isinstance(models, dict) else {}, problems)
        return None
    models = _models(file.models, problems)
    problems.extend(default_problems(file))
    return Catalogue(MappingProxyType(models), MappingProxyType(file.defaults))


def _models(entries: Mapping[Any, Any], problems: list[Located]) -> dict[str, Model]:
    models: dict[str, Model] = {}
    for name, data in entries.items():
        where = ("models", str(name))
        modality = modality_of(str(name))
        try:
            entry = _MODEL.validate_python(data)
        except ValidationError as error:
            problems.extend(located_errors(where, error))
            continue
        if modality is None:
            continue
        for provider, route in entry.routes.items():
            problems.extend(route_problems((*where, "routes", provider), provider, modality, route))
        routes = tuple(route.as_route(provider, name) for provider, route in entry.routes.items())
        models[name] = Model(name, entry.title, modality, routes)
    return models
