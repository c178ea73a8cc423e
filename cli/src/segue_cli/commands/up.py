"""`segue up`: all of Segue on this machine, until it is stopped."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.text import Text

from chassis.errors import EXIT_SETTINGS
from chassis.runtime.private_files import keep_private
from chassis.settings.names import SECRETS, unknown_names
from chassis.settings.secret_files import secret_files, with_secrets
from contracts.text import escaped_line
from segue_cli.stack import environment
from segue_cli.stack.components import Part, StackFailed, exit_in_words, from_here
from segue_cli.stack.folder import FOLDER, AlreadyUp, CannotUse, State, held
from segue_cli.stack.progress import told
from segue_cli.stack.run import Plan, Stack, stack
from segue_cli.stack.signals import INTERRUPTED, run_until_told
from segue_cli.views.console import console, curl, plain_table


def up(*, live: bool, port: int) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code: 0 after a requested stop."""
    keep_private()
    out = console()
    try:
        with held(FOLDER) as state:
            code = run_until_told(_up(state, out, live=live, port=port))
    except AlreadyUp as error:
        api = environment.read_env(FOLDER / "up.env").get(environment.API)
        out.print(Text(f"{error}{f', at {api}' if api else ''}; stop that one with Ctrl-C first", style="red"))
        return 1
    except CannotUse as error:
        console(stderr=True).print(Text(f"segue: {error}", style="red"), soft_wrap=True)
        return EXIT_SETTINGS
    if code == INTERRUPTED:
        out.print("Stopped.")
        return 0
    return code


async def _up(state: State, out: Console, *, live: bool, port: int) -> int:
    began = time.monotonic()
    here = Path.cwd()
    written = environment.as_written(here)
    environ, files = with_secrets(written, SECRETS), secret_files(written, SECRETS)
    plan = Plan(state, environ, here, live=live, port=port, files=files)
    for note in unknown_names(environ):
        console(stderr=True).print(Text(escaped_line(note), style="yellow"), soft_wrap=True)
    try:
        async with AsyncExitStack() as started:
            async with told(out, "Starting Segue", plan.starting):
                running = await started.enter_async_context(stack(plan))
            _show(out, running, state, time.monotonic() - began)
            _say_once(out, running, environ, live=live)
            try:
                await _tell_deaths(out, [*running.local, *running.services])
            finally:
                out.print("Stopping: the services first, then the infrastructure …")
    except StackFailed as error:
        console(stderr=True).print(Text(str(error), style="red"), soft_wrap=True)
        return error.code
    return 1


async def _tell_deaths(out: Console, parts: list[Part]) -> None:
    """Print a message for each part that dies, until cancelled."""

    async def tell(part: Part) -> None:
        code = await part.process.wait()
        told = Text(f"{part.name} {exit_in_words(code)}. Start it again with:  {part.again}", style="red")
        out.print(told, soft_wrap=True)

    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(tell(part))
    out.print(Text("No part that was started here is running any more; Ctrl-C ends this command.", style="red"))
    await asyncio.Event().wait()


def _show(out: Console, running: Stack, state: State, took_s: float) -> None:
    out.print(f"[bold green]Segue is up[/] after {took_s:.1f} s.\n")
    links = plain_table("", "")
    links.show_header = False
    links.add_row("API", running.api)
    links.add_row("docs", f"{running.api}/docs")
    if sandbox := running.env.get(environment.SANDBOX):
        links.add_row("sandbox", f"{sandbox}  (both providers, their faults and bills)")
    else:
        links.add_row("providers", "live: runs cost money")
    links.add_row("settings", from_here(state.env_file))
    links.add_row("artifacts", running.env["ARTIFACT_STORE_URL"])
    out.print(links)
    table = plain_table("part", "pid", "address", "log")
    for part in [*running.services, *running.local]:
        table.add_row(part.name, str(part.pid), part.address, from_here(part.log))
    out.print("\n", table, "\n", sep="")
    out.print("[bold]A first track:[/]")
    out.print(Text(f"  {curl(running.api)}\n"), soft_wrap=True)
    out.print("[bold]A part that has died is not restarted automatically. To start it again:[/]")
    for part in running.services:
        out.print(Text(f"  {part.again}"), soft_wrap=True)


def _say_once(out: Console, running: Stack, environ: dict[str, str], *, live: bool) -> None:
    if running.left_out:
        out.print(Text(f"\n{running.left_out[0].upper()}{running.left_out[1:]}."), soft_wrap=True)
    if any(part.name == "kafka" for part in running.local):
        out.print("\nThe embedded Kafka keeps its records in memory: they go when it stops. The database stays.")
    if not live and any(environ.get(name) for name in ("FAL_KEY", "FAL_API_KEY", "REPLICATE_API_TOKEN")):
        out.print("Your provider keys are not used: the sandbox plays both providers. --providers live uses them.")
    out.print("\nCtrl-C stops everything.")
