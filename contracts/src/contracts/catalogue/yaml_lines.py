"""YAML with the line of each part, for error messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem in a file; `line` counts from 1."""

    line: int
    what: str


@dataclass(frozen=True, slots=True)
class LinedYaml:
    """The data of a YAML file, and the line of each part of it, from 1."""

    data: object
    lines: dict[Path, int]
    problems: tuple[Problem, ...]
    """Duplicate keys: the YAML parser accepts them and keeps only the last value."""

    def line_of(self, path: Path) -> int:
        """The line of a part, or of the nearest enclosing part that is in the file."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 1


def parse(raw: bytes) -> LinedYaml | Problem:
    """The data of a YAML file, or the reason why it cannot be parsed."""
    try:
        loader = yaml.SafeLoader(raw)
        node = loader.get_single_node()
        if node is None:
            return LinedYaml(None, {}, ())
        parts = list(_walk(node, (), ()))
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return Problem(mark.line + 1 if mark else 1, error.problem or "not YAML")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ReaderError: the bytes are not text. ValueError: a scalar is invalid, such as an impossible date.
        position = getattr(error, "position", 0)
        return Problem(raw.count(b"\n", 0, position) + 1, f"not YAML: {str(error).splitlines()[0][:200]}")
    lines: dict[Path, int] = {}
    duplicates: list[Problem] = []
    for path, line in parts:
        if path in lines:
            duplicates.append(Problem(line, f"{path[-1]!r} is given twice, first on line {lines[path]}"))
        lines.setdefault(path, line)
    return LinedYaml(data, lines, tuple(duplicates))


def _walk(node: yaml.Node, path: Path, ancestors: tuple[yaml.Node, ...]) -> Iterator[tuple[Path, int]]:
    if any(each is node for each in ancestors):
        return
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _walk(value, here, (*ancestors, node))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), value.start_mark.line + 1
            yield from _walk(value, (*path, index), (*ancestors, node))
