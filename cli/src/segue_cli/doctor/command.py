"""`segue doctor`: checks everything that Segue needs, at no cost and without printing secrets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from chassis.runtime.private_files import keep_private
from contracts.text import escaped_line
from segue_cli.doctor.advice import Finding
from segue_cli.doctor.sources import Sources, read_sources, shown
from segue_cli.stack import environment
from segue_cli.stack.folder import FOLDER
from segue_cli.views.console import console, plain_table

_LIMIT_S: Final = 60.0
_SETTING: Final = tuple(environment.SETTINGS)
Check = Callable[[Mapping[str, str]], Awaitable[list[Finding]]]
_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(*, sandbox: bool, env_file: Path | None) -> int:
    """Run all checks; returns 1 if one fails."""
    keep_private()
    out = console()
    told = FOLDER / "up.env" if sandbox else env_file
    if told is not None and not told.exists():
        why = "no `segue up` runs in this folder" if sandbox else f"{told} is not there"
        out.print(Text(why[0].upper() + why[1:] + ".", style="red"))
        return 1
    sources = read_sources(told)
    env = sources.values
    for name in (*environment.SETTINGS, *environment.FILES):
        os.environ.pop(name, None)
    # The SDKs and the TLS library read some of these themselves.
    os.environ.update({name: value for name, value in env.items() if name in environment.SETTINGS})
    _show_sources(out, sources)
    code = asyncio.run(_examine(out, env, sources.findings))
    if told is None and (FOLDER / "up.env").is_file():
        out.print("\nA `segue up` runs in this folder: `segue doctor --sandbox` looks at that one.")
    return code


def _show_sources(out: Console, sources: Sources) -> None:
    """Say of each setting that is set where it is from."""
    table = plain_table("setting", "value", "from")
    for name in sorted(sources.origins.keys() & {*environment.SETTINGS, environment.API}):
        table.add_row(name, escaped_line(shown(name, sources.values[name])), sources.origins[name])
    if table.row_count:
        out.print(table, "\n", sep="")


async def _examine(out: Console, env: dict[str, str], found: list[Finding]) -> int:
    with out.status("Looking …"):
        from segue_cli.doctor.checks import CHECKS, import_all

        # Imported before the checks, which have time limits.
        import_all()
        for several in await asyncio.gather(*(_looked(check, env) for check in CHECKS)):
            found += several
    table = plain_table("", "check", "found", "what to do")
    for one in found:
        style = _STYLES[one.verdict]
        table.add_row(Text(one.verdict, style=style), one.what, one.found, one.todo)
    out.print(table)
    failed = [one for one in found if one.verdict == "fail"]
    warned = sum(one.verdict == "warn" for one in found)
    if failed:
        out.print(f"\n[bold red]{len(failed)} of {len(found)} checks failed:[/]")
        for one in failed:
            line = one.found if one.found.startswith(_SETTING) else f"{one.what}: {one.found}"
            out.print(Text(f"  {escaped_line(line)}"), soft_wrap=True)
        return 1
    out.print(f"\n[bold green]Nothing is wrong[/]{f', {warned} to be noted' if warned else ''}.")
    return 0


async def _looked(check: Check, env: dict[str, str]) -> list[Finding]:
    """The findings of a check; if the check itself fails, that is the finding."""
    from chassis.errors import in_one_line, root_cause

    try:
        async with asyncio.timeout(_LIMIT_S):
            return await check(env)
    except Exception as error:  # noqa: BLE001 - the other checks continue, whatever is wrong with this one
        said = in_one_line(root_cause(error))
        return [Finding(check.__name__.replace("_", " "), "fail", f"cannot be looked at: {said}", "")]
