"""Reads the file of routing policies and reports every problem in it with its line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from contracts.catalogue import Catalogue
from contracts.catalogue.reporting import Located, located_errors, report
from contracts.catalogue.yaml_lines import Problem, parse
from orchestrator.routing.policy import NO_POLICY, Policies, Policy


class PolicyError(Exception):
    """The policies cannot be used; the message has one line for each problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """The schema of the file."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    default: Policy = NO_POLICY
    models: dict[str, Policy] = field(default_factory=dict)
    tenants: dict[Annotated[str, Field(min_length=1, max_length=200)], Policy] = field(default_factory=dict)

    def problems(self) -> Iterator[Located]:
        """The problems that the schema does not detect."""
        sections: dict[tuple[str, ...], Policy] = {("default",): self.default}
        sections |= {("models", name): policy for name, policy in self.models.items()}
        sections |= {("tenants", name): policy for name, policy in self.tenants.items()}
        for where, policy in sections.items():
            yield from (((*where, name), f"{'.'.join(where)}: {what}") for name, what in policy.problems())


_FILE: Final = TypeAdapter(PolicyFile)


def load_policies(path: Path, catalogue: Catalogue) -> Policies:
    """The policies in a file. Raises PolicyError, with a line `routing.yaml:LINE: problem` for each problem."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PolicyError(f"SEGUE_ROUTING: {path} can't be read: {error.strerror}") from None
    parsed = parse(raw)
    if isinstance(parsed, Problem):
        raise PolicyError(report(path, [parsed]))
    located = list(_unknown_models(parsed.data, catalogue))
    file = PolicyFile()
    try:
        file = _FILE.validate_python({} if parsed.data is None else parsed.data)
        located.extend(file.problems())
    except ValidationError as error:
        for where, what in located_errors((), error):
            located.append((where, f"{'.'.join(map(str, where[:-1])) or 'the file'}: {what}"))
    problems = [*parsed.problems, *(Problem(parsed.line_of(where), what) for where, what in located)]
    if problems:
        raise PolicyError(report(path, problems))
    return Policies(file.default, file.models, file.tenants)


def _unknown_models(data: object, catalogue: Catalogue) -> Iterator[Located]:
    models = data.get("models") if isinstance(data, dict) else None
    for name in models if isinstance(models, dict) else {}:
        if name not in catalogue.models:
            yield ("models", str(name)), f"models: the catalogue has no {name!r}; it has {', '.join(catalogue.models)}"
