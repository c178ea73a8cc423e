"""`segue providers`: the state of each provider, once or every second."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from segue_cli.commands.api import Api

EVERY_S: Final = 1.0


def add_to(app: typer.Typer) -> None:
    """Register the command with `segue`."""
    app.command()(providers)


def providers(
    as_json: Annotated[bool, typer.Option("--json", help="The API's JSON; with --watch, one line each.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every second, until Ctrl-C.")] = False,
    api: Annotated[str | None, typer.Option("--api", help="The API's address; also SEGUE_API.")] = None,
) -> None:
    """Show the health of the providers: breaker, errors, latency, attempts in flight and waiting."""
    from segue_cli.commands.api import ApiFailed, address, connected

    try:
        with connected(address(api)) as segue:
            if not watch:
                _show(segue.providers(), as_json=as_json)
            elif as_json:
                _follow(segue)
            else:
                _watch(segue)
    except ApiFailed as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _show(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document, indent=2))
        return
    from segue_cli.views.console import console
    from segue_cli.views.providers import providers_screen

    console().print(providers_screen(document))


def _follow(segue: Api) -> None:
    while True:
        print(json.dumps(segue.providers()), flush=True)
        time.sleep(EVERY_S)


def _watch(segue: Api) -> None:
    from rich.console import Group, RenderableType
    from rich.live import Live
    from rich.text import Text

    from segue_cli.commands.api import ApiFailed
    from segue_cli.views.console import console
    from segue_cli.views.providers import providers_screen

    drawn: RenderableType = Text()
    with Live(console=console(), auto_refresh=False, vertical_overflow="visible") as screen:
        while True:
            try:
                document = segue.providers()
            except ApiFailed as error:
                # While the gateway restarts, the last known state stays on the screen.
                screen.update(Group(drawn, Text(str(error), style="red")), refresh=True)
            else:
                drawn = providers_screen(document)
                screen.update(drawn, refresh=True)
            time.sleep(EVERY_S)
