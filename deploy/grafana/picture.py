"""Draws the dashboards with Grafana's own panels.

By itself, `make dashboards-pictures`, it runs Segue with jobs and faults and asks what the dashboards ask; a panel that
finds nothing is an error then, unless `pictures.empty` lists it. `--redraw` draws what was found the last time. With
`--prometheus` and `--database` it draws a Segue that runs, whatever is wrong with it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from boards.files import FOLDER as DASHBOARDS
from boards.queries import Json
from pictures.ask import ask_running
from pictures.draw import draw, missing
from pictures.empty import MAY_BE_EMPTY, asked, faults
from pictures.gather import FOUND, ROOT, gather, say

PICTURES: Final = ROOT / "docs" / "dashboards"


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redraw", action="store_true", help="draw what was found the last time")
    parser.add_argument("--only", help="one dashboard, by the name of its file")
    parser.add_argument("--prometheus", metavar="URL", help="of a Segue that runs")
    parser.add_argument("--database", metavar="URL", help="of the same")
    parser.add_argument("--minutes", type=float, default=15, help="how much of it (15)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "dashboards", help="where those pictures go")
    options = parser.parse_args()
    if bool(options.prometheus) != bool(options.database):
        parser.error("--prometheus and --database belong together")
    if why := missing():
        print(f"dashboards-pictures: {why}", file=sys.stderr)
        return 1
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    FOUND.parent.mkdir(parents=True, exist_ok=True)
    if options.prometheus:
        found = asyncio.run(ask_running(options.prometheus, options.database, options.minutes, say))
        _draw(found, options.out, options.only)
        return 0
    if not options.redraw:
        asyncio.run(gather())
    found = json.loads(FOUND.read_text("utf-8"))
    for name, board in found.items():
        # As it is now; what was found belongs to the panels' ids.
        board["dashboard"] = json.loads((DASHBOARDS / f"{name}.json").read_text("utf-8"))
    _draw(found, PICTURES, options.only)
    wrong = faults(found)
    say(f"{len({*asked(found)})} queries, of which {len(MAY_BE_EMPTY)} may find nothing, and {len(wrong)} faults")
    for line in wrong:
        say(f"! {line}")
    return 1 if wrong else 0


def _draw(found: Mapping[str, Json], folder: Path, only: str | None) -> None:
    for name, board in found.items():
        if only in (None, name):
            path = folder / f"{name}.png"
            draw(board, path, FOUND.parent)
            say(f"{path}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    sys.exit(main())
