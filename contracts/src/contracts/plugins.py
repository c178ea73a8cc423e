"""What other distributions bring: specs of providers and of modalities, by the entry points that they declare.

https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TypeVar

T = TypeVar("T")


def brought(group: str, kind: type[T]) -> tuple[T, ...]:
    """What the entry points of a group lead to, by their names. Raises TypeError for what is not of this kind."""
    found = tuple(each.load() for each in sorted(entry_points(group=group), key=lambda each: each.name))
    if wrong := [each for each in found if not isinstance(each, kind)]:
        raise TypeError(f"an entry point of {group} is no {kind.__name__}: {wrong[0]!r}")
    return found
