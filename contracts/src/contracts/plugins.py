"""Specs of providers and modalities that other distributions add by entry points.

https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TypeVar

T = TypeVar("T")


def load_plugins(group: str, kind: type[T]) -> tuple[T, ...]:
    """The objects of a group's entry points, ordered by entry point name. Raises TypeError if one is not a `kind`."""
    found = tuple(each.load() for each in sorted(entry_points(group=group), key=lambda each: each.name))
    if wrong := [each for each in found if not isinstance(each, kind)]:
        raise TypeError(f"an entry point of {group} is not a {kind.__name__}: {wrong[0]!r}")
    return found
