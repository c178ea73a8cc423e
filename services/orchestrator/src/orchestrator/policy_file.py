"""Reads the routing policies, and says of everything wrong in them on which line it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from contracts.catalogue import Catalogue
from contracts.catalogue.reporting import Located, located_errors, report
from contracts.catalogue.yaml_lines import Problem, parse
from orchestrator.routing.policy import NOTHING, Policies, Policy


class PolicyError(Exception):
    """The policies can't be used; the message has a line for each problem in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """The file as it is written."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    default: Policy = NOTHING
    models: dict[str, Policy] = field(default_factory=dict)
    tenants: dict[Annotated[str, Field(min_length=1, max_length=200)], Policy] = field(default_factory=dict)

    def problems(self) -> Iterator[Located]:
        """What has the right shape and still means nothing."""
        sections: dict[tuple[str, ...], Policy] = {("default",): self.default}
        sections |= {("models", name): policy for name, policy in self.models.items()}
        sections |= {("tenants", name): policy for name, policy in self.tenants.items()}
        for where, policy in sections.items():
            yield from (((*where, name), f"{'.'.join(where)}: {what}") for name, what in policy.problems())


_FILE: Final = TypeAdapter(PolicyFile)


def load_policies(path: Path, catalogue: Catalogue) -> Policies:
    """The policies in a file. Raises PolicyError with every problem as `routing.yaml:LINE: what`."""
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
        located.extend(
            (where, f"{'.'.join(map(str, where[:-1])) or 'the file'}: {what}")
            for where, what in located_errors((), error)
        )
    problems = [*parsed.problems, *(Problem(parsed.line_of(where), what) for where, what in located)]
    if problems:
        raise PolicyError(report(path, problems))
    return Policies(file.default, file.models, file.tenants)


def _unknown_models(data: object, catalogue: Catalogue) -> Iterator[Located]:
    models = data.get("models") if isinstance(data, dict) else None
    for name in models if isinstance(models, dict) else {}:
        if name not in catalogue.models:
            yield ("models", str(name)), f"models: the catalogue has no {name!r}; it has {', '.join(catalogue.models)}"
