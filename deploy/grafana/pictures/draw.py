"""A dashboard and what its panels found, drawn by Grafana's own panels in Chromium."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from boards.queries import Json

NEEDED: Final = ("prometheus", "node", "npm", "chromium", "pngquant")
RENDER: Final = Path(__file__).resolve().parents[1] / "render"
WIDTH: Final = 1440
CELL: Final = 38
"""The height of one row of the grid, with its gap, in pixels, as on Grafana's page."""
_HEAD: Final = 96


def missing() -> str | None:
    """What is not installed, as one line; None if nothing is."""
    tools = [tool for tool in NEEDED if shutil.which(tool) is None]
    return f"not on the PATH: {', '.join(tools)}" if tools else None


def draw(board: Json, picture: Path, folder: Path) -> None:
    """Write the picture; `folder` is for files on the way. Raises subprocess.CalledProcessError."""
    _bundle()
    last = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["dashboard"]["panels"])
    page = folder / f"{picture.stem}.html"
    data = json.dumps(board | {"cell": CELL, "width": WIDTH}).replace("</", "<\\/")
    script = (RENDER / "dist" / "index.js").read_text("utf-8").replace("</script", "<\\/script")
    style = (RENDER / "dist" / "index.css").read_text("utf-8")
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><style>{style} body {{margin: 0}}</style><div id="page"></div>'
        f"<script>window.BOARD = {data}</script><script>{script}</script>",
        "utf-8",
    )
    picture.parent.mkdir(parents=True, exist_ok=True)
    _chromium(page, folder, f"--window-size={WIDTH},{_HEAD + last * CELL}", f"--screenshot={picture.resolve()}")
    # A tenth of the size, with colours that nobody tells apart.
    subprocess.run(["pngquant", "--force", "--strip", "--output", picture, "64", picture], check=True)


def words(page: Path, folder: Path) -> str:
    """The texts of a page that was drawn, as a reader finds them."""
    drawn = _chromium(page, folder, f"--window-size={WIDTH},4000", "--dump-dom")
    return html.unescape(re.sub(r"(?s)<(script|style)\b.*?</\1>|<[^>]*>", "\n", drawn))


def _chromium(page: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--virtual-time-budget=8000",
            f"--user-data-dir={folder / 'chromium'}",
            *arguments,
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def _bundle() -> None:
    """Install what the page is made of, once, and put it into one file."""
    if not (RENDER / "node_modules").is_dir():
        subprocess.run(["npm", "ci"], cwd=RENDER, check=True)
    source, made = RENDER / "index.jsx", RENDER / "dist" / "index.js"
    if not made.is_file() or made.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["npm", "run", "--silent", "bundle"], cwd=RENDER, check=True)
