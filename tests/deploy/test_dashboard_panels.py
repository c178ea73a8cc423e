"""The dashboards with the data of a Segue that runs jobs and faults: every panel finds something and is drawn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from boards.files import FOLDER
from pictures import gather
from pictures.draw import draw, missing, words
from pictures.empty import faults

pytestmark = [
    pytest.mark.dashboards,
    pytest.mark.timeout(1200),
    # A service is killed, and connections with it.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    if why := missing():
        pytest.skip(f"the dashboards need what is {why}")
    return asyncio.run(gather.gather())


def test_no_panel_is_empty_but_those_that_are_listed_with_a_reason(found: dict[str, Any]) -> None:
    assert {*found} == {*NAMES}
    assert faults(found) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_is_drawn_with_every_panel(name: str, found: dict[str, Any], tmp_path: Path) -> None:
    draw(found[name], tmp_path / f"{name}.png", tmp_path)
    assert (tmp_path / f"{name}.png").stat().st_size > 20_000
    said = words(tmp_path / f"{name}.html", tmp_path)
    titles = [panel["title"] for panel in found[name]["dashboard"]["panels"]]
    assert [title for title in titles if title not in said] == []
