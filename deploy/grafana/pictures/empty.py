"""Which panels may be empty after the scene, and whether the others are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

MAY_BE_EMPTY: Final[Mapping[tuple[str, str], str]] = {
    ("providers", "Submits not sent in time"): "a process is frozen between its commit and its POST, for milliseconds",
}
"""Panels that find nothing, by the file of their dashboard and their title, with the reason."""


def faults(found: Mapping[str, Any]) -> list[str]:
    """What is wrong, one line each: queries that found nothing, and panels that are listed and need not be."""
    empty: dict[tuple[str, str], list[str]] = {}
    for name, title, ref, some in asked(found):
        empty.setdefault((name, title), []).extend([] if some else [ref])
    lines = [
        f"{name}: {title}: nothing for query {', '.join(refs)}"
        for (name, title), refs in empty.items()
        if refs and (name, title) not in MAY_BE_EMPTY
    ]
    for at in MAY_BE_EMPTY:
        if at not in empty:
            lines.append(f"{at[0]}: {at[1]}: may be empty, and there is no such panel")
        elif not empty[at]:
            lines.append(f"{at[0]}: {at[1]}: may be empty, and is not: take it off the list")
    return lines


def asked(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Each query: its dashboard, its panel, its letter, and whether it found a value."""
    for name, board in found.items():
        for panel in board["dashboard"]["panels"]:
            frames = board["frames"].get(str(panel["id"]), [])
            for target in panel.get("targets", []):
                ref = target["refId"]
                yield name, panel["title"], ref, any(_some(frame) for frame in frames if frame["refId"] == ref)


def _some(frame: Mapping[str, Any]) -> bool:
    values = [value for field in frame["fields"] if field["type"] != "time" for value in field["values"]]
    return any(value is not None for value in values)
