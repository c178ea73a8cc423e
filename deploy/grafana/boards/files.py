"""The files of the dashboards, by their name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from boards.dashboard import Dashboard, text
from boards.flow import FLOW
from boards.jobs import JOBS
from boards.money import MONEY
from boards.overview import OVERVIEW
from boards.providers import PROVIDERS

FOLDER: Final = Path(__file__).resolve().parents[1] / "dashboards"
DASHBOARDS: Final[Mapping[str, Dashboard]] = {
    "overview.json": OVERVIEW,
    "providers.json": PROVIDERS,
    "flow.json": FLOW,
    "jobs.json": JOBS,
    "money.json": MONEY,
}


def stale(folder: Path = FOLDER) -> list[str]:
    """The names of files in the folder that differ from what would be written, or that no dashboard has any more."""
    there = {path.name: path.read_text("utf-8") for path in folder.glob("*.json")}
    wanted = {name: text(dashboard) for name, dashboard in DASHBOARDS.items()}
    return sorted(name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name))


def write(name: str, folder: Path = FOLDER) -> None:
    """Write one file, or delete it if no dashboard has it."""
    if name in DASHBOARDS:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text(DASHBOARDS[name]), "utf-8")
    else:
        (folder / name).unlink()
