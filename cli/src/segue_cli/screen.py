"""The terminal: one console for what is asked for, and how times, sizes and states look."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

SEED_REQUEST: Final = '{"prompt": "Warm ambient pad", "duration_s": 20, "has_vocals": false, "style_strength": 0.5}'
_WIDTH_OF_FILES: Final = 160
_STATES: Final = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "ambiguous": "yellow",
    "running": "cyan",
    "submitting": "cyan",
    "queued": "dim",
}


def console(*, stderr: bool = False) -> Console:
    """A console; wide where it is no terminal, so that a file or a pipe gets whole lines."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=_WIDTH_OF_FILES)


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A table without lines between rows, whose cells are never cut off."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def state(name: str) -> Text:
    """The state of a job or attempt, coloured."""
    return Text(name, style=_STATES.get(name, ""))


def usd(amount: float | None) -> str:
    """An amount of money, as precise as providers' prices are."""
    return "-" if amount is None else f"${amount:.4f}".rstrip("0").rstrip(".") if amount else "$0"


def curl(api: str) -> str:
    """The command that posts the first request of every newcomer."""
    return f"curl -sS -X POST {api}/api/tracks -H 'content-type: application/json' -d '{SEED_REQUEST}'"
