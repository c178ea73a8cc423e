"""The terminal: the console for output, and the format of times, sizes and states."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Any, Final, TextIO

import typer
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from contracts.messages.wording import in_dollars
from contracts.text import escaped

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


class PrintableStream:
    """A text stream that escapes control characters, so that no text can control the terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.bare = stream

    def write(self, text: str) -> int:
        """Write the text, with control characters escaped."""
        return self.bare.write(escaped(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)


class _Printable(RenderHook):
    """Escapes control characters in what a console draws, except the console's own."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Drawn(each) for each in renderables]


class _Drawn:
    def __init__(self, renderable: ConsoleRenderable) -> None:
        self._renderable = renderable

    def __rich_console__(self, screen: Console, options: ConsoleOptions) -> RenderResult:
        for segment in screen.render(self._renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text), segment.style)

    def __rich_measure__(self, screen: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(screen, options, self._renderable)


class PlainTable(Table):
    """A table whose cells are plain text, not markup."""

    def add_row(self, *cells: Any, **more: Any) -> None:
        """Add a row of texts or renderables."""
        super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **more)


def harmless_output() -> None:
    """Have everything that this process prints from now on go through `escaped`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # For characters that the terminal's encoding does not have.
            setattr(sys, name, PrintableStream(stream))


def console(*, stderr: bool = False) -> Console:
    """A console; wide if it is not a terminal, so that lines in a file or a pipe are complete."""
    stream = sys.stderr if stderr else sys.stdout
    made = Console(file=getattr(stream, "bare", stream), highlight=False)
    if not made.is_terminal:
        made = Console(file=made.file, highlight=False, width=_WIDTH_OF_FILES)
    made.push_render_hook(_Printable())
    return made


def confirmed(question: str) -> bool:
    """Ask, and return whether the answer is yes; it is not if there is none: at Ctrl-C, or at the end of the input."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        print()  # The question has no end of its line.
        return False


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A table without lines between rows, whose cells are never cut off."""
    table = PlainTable(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def state(name: str) -> Text:
    """The state of a job or attempt, coloured."""
    return Text(name, style=_STATES.get(name, ""))


def usd(amount: float | None) -> str:
    """An amount in US dollars, as the log of a job has it; "-" if it is not known."""
    return "-" if amount is None else in_dollars(amount)


def curl(api: str) -> str:
    """A curl command that posts a first request."""
    return f"curl -sS -X POST {api}/api/tracks -H 'content-type: application/json' -d '{SEED_REQUEST}'"
