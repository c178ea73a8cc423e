"""`make dashboards-pictures` runs Segue with jobs and faults, asks what the dashboards ask, and draws each of them.

A panel that finds nothing is an error, unless `pictures.empty` lists it. `--redraw` draws what was found the last time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from typing import Final

from boards.files import FOLDER as DASHBOARDS
from pictures.draw import draw, missing
from pictures.empty import MAY_BE_EMPTY, asked, faults
from pictures.gather import FOUND, ROOT, gather, say

PICTURES: Final = ROOT / "docs" / "dashboards"


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redraw", action="store_true", help="draw what was found the last time")
    parser.add_argument("--only", help="one dashboard, by the name of its file")
    options = parser.parse_args()
    if why := missing():
        print(f"dashboards-pictures: {why}", file=sys.stderr)
        return 1
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if not options.redraw:
        asyncio.run(gather())
    found = json.loads(FOUND.read_text("utf-8"))
    for name, board in found.items():
        # As it is now; what was found belongs to the panels' ids.
        board["dashboard"] = json.loads((DASHBOARDS / f"{name}.json").read_text("utf-8"))
    for name, board in found.items():
        if options.only in (None, name):
            path = PICTURES / f"{name}.png"
            draw(board, path, FOUND.parent)
            say(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")
    wrong = faults(found)
    say(f"{len({*asked(found)})} queries, of which {len(MAY_BE_EMPTY)} may find nothing, and {len(wrong)} faults")
    for line in wrong:
        say(f"! {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
