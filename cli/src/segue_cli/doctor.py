"""`segue doctor`: looks at everything that Segue needs, spends nothing, tells no secret, and says how to mend it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from segue_cli import environment
from segue_cli.screen import console, plain_table
from segue_cli.state import FOLDER

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(*, sandbox: bool, env_file: Path | None) -> int:
    """Run all checks; returns 1 if one fails."""
    out = console()
    told = FOLDER / "up.env" if sandbox else env_file
    if told is not None and not told.is_file():
        why = "no `segue up` runs in this folder" if sandbox else f"{told} is not there"
        out.print(Text(why[0].upper() + why[1:] + ".", style="red"))
        return 1
    env = environment.given(Path.cwd())
    if told is not None:
        # Of the providers nothing is left over: a key of one set must not go to the host of another.
        env = {name: value for name, value in env.items() if name not in environment.PROVIDER_SETTINGS}
        env |= environment.read_env(told)
    for name in environment.SETTINGS:
        os.environ.pop(name, None)
    # The SDKs and TLS read some of it themselves.
    os.environ.update({name: value for name, value in env.items() if name in environment.SETTINGS})
    code = asyncio.run(_examine(out, env))
    if told is None and (FOLDER / "up.env").is_file():
        out.print("\nA `segue up` runs in this folder: `segue doctor --sandbox` looks at that one.")
    return code


async def _examine(out: Console, env: dict[str, str]) -> int:
    from segue_cli.doctor_checks import CHECKS

    with out.status("Looking …"):
        found = [one for several in await asyncio.gather(*(check(env) for check in CHECKS)) for one in several]
    table = plain_table("", "check", "found", "what to do")
    for one in found:
        style = _STYLES[one.verdict]
        table.add_row(Text(one.verdict, style=style), one.what, Text(one.found), Text(one.todo))
    out.print(table)
    failed = sum(one.verdict == "fail" for one in found)
    warned = sum(one.verdict == "warn" for one in found)
    if failed:
        out.print(f"\n[bold red]{failed} of {len(found)} checks failed.[/]")
        return 1
    out.print(f"\n[bold green]Nothing is wrong[/]{f', {warned} to be noted' if warned else ''}.")
    return 0
