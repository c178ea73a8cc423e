"""Dead letters as text for operators."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from contracts.text import escaped_line
from segue_cli.views.console import plain_table

if TYPE_CHECKING:
    from rich.table import Table

    from chassis.delivery.letters import Letter


def letters_table(letters: Iterable[Letter]) -> Table:
    """One line for each letter: its place, when and by whom it was written, what it was, and the error."""
    table = plain_table("letter", "written (UTC)", "service", "record", "type", "key", "error")
    for one in letters:
        source = f"{one.topic}/{one.source_partition}/{one.source_offset}"
        written = f"{one.written_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(
            one.id, written, one.service, source, one.type or "-", escaped_line(_text(one.key)), escaped_line(one.error)
        )
    return table


def whole_letter(one: Letter) -> str:
    """All that a letter holds, as lines of text."""
    tries = "it could not be decoded" if one.tries == 0 else f"tried {one.tries} times"
    lines = [
        f"letter     {one.id}, written {one.written_at:%Y-%m-%d %H:%M:%S} UTC by {one.service}, {tries}",
        f"record     {one.topic}, partition {one.source_partition}, offset {one.source_offset}",
        f"error      {escaped_line(one.error)}",
        f"key        {escaped_line(_text(one.key))}",
        *(f"header     {escaped_line(f'{name}: {_text(value)}')}" for name, value in one.headers),
        *([f"left out   {', '.join(one.left_out)}: too large for a letter"] if one.left_out else []),
        "",
        _text(one.value),
    ]
    return "\n".join(lines)


def _text(raw: bytes | None) -> str:
    return "-" if raw is None else raw.decode(errors="backslashreplace")
