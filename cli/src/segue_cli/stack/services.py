"""Segue's services as child processes: started together, ready together, stopped together."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import httpx

from chassis.errors import EXIT_SETTINGS, EXIT_TEMPORARY
from contracts.topics import SERVICES
from segue_cli.local.ports import LOOPBACK, free_port, is_free
from segue_cli.local.process import START_LIMIT_S, Child, child
from segue_cli.stack.components import (
    Part,
    StackFailed,
    exit_in_words,
    log_to,
    module_of,
    service_again,
    spoken,
)
from segue_cli.stack.folder import State
from segue_cli.stack.progress import Starting

_ASK_EVERY_S: Final = 0.05
_DRAIN_S: Final = 25.0
_EVERYWHERE: Final = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not bound


@asynccontextmanager
async def services(
    names: Sequence[str],
    environ: Mapping[str, str],
    state: State,
    ports: Mapping[str, int],
    cwd: Path,
    starting: Starting,
) -> AsyncIterator[Sequence[Part]]:
    """Run these services for the length of the block, which begins when each is ready. Raises StackFailed.

    The gateway is the first of them. `environ` is their whole environment except the port.
    """
    host = environ.get("SEGUE_HOST", LOOPBACK)
    base = f"http://{LOOPBACK if host in _EVERYWHERE else host}"
    grace_s = float(environ.get("SEGUE_DRAIN_S") or _DRAIN_S) + 5
    async with AsyncExitStack() as stack:
        children: list[Child] = []
        parts: list[Part] = []
        for name in names:
            take, close = log_to(state.logs / f"{name}.log")
            stack.callback(close)
            env = {**environ, "SEGUE_PORT": str(ports[name])}
            argv = [sys.executable, "-m", module_of(name)]
            one = await stack.enter_async_context(
                child(argv, name=name, env=env, cwd=str(cwd), on_line=take, grace_s=grace_s)
            )
            children.append(one)
            again = service_again(name, ports[name], state.env_file)
            parts.append(Part(name, one, one.pid, f"{base}:{ports[name]}", state.logs / f"{name}.log", again))
        try:
            await _all_ready(children, parts, starting)
            yield parts
        finally:
            await asyncio.gather(*(one.stop(grace_s=grace_s) for one in children))


def choose_ports(first: int) -> dict[str, int]:
    """A port for each service: `first` for the gateway, the next free ones for the others; any free ones if it is 0.

    Raises StackFailed if `first` is in use.
    """
    if first and not is_free(first):
        raise StackFailed(
            f"port {first} is taken: choose another one with --port, or stop what listens there", EXIT_SETTINGS
        )
    wanted = range(first, first + len(SERVICES)) if first else ()
    taken = [port for port in wanted if is_free(port)]
    while len(taken) < len(SERVICES):
        taken = list(dict.fromkeys([*taken, free_port()]))
    return dict(zip(SERVICES, taken, strict=True))


async def _all_ready(children: Sequence[Child], parts: Sequence[Part], starting: Starting) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        try:
            async with asyncio.TaskGroup() as tasks:
                for one, part in zip(children, parts, strict=True):
                    tasks.create_task(_ready(one, part, client, starting))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None


async def _ready(one: Child, part: Part, client: httpx.AsyncClient, starting: Starting) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    why = "does not answer"
    with starting.part(part.name):
        while time.monotonic() < deadline:
            if one.returncode is not None:
                raise _failed(one, part, f"{exit_in_words(one.returncode)} before it was ready")
            try:
                answer = await client.get(f"{part.address}/readyz")
            except httpx.HTTPError:
                pass
            else:
                if answer.is_success:
                    return
                why = answer.text
            await asyncio.sleep(_ASK_EVERY_S)
    raise _failed(one, part, f"was not ready within {START_LIMIT_S:.0f} s: {why}")


def _failed(one: Child, part: Part, why: str) -> StackFailed:
    if (code := one.returncode) in (EXIT_SETTINGS, EXIT_TEMPORARY):
        said = (line for line in one.tail if line.startswith(f"{part.name} cannot start: "))
        if (line := next(said, None)) is not None:
            return StackFailed(line, code)
    return StackFailed("\n".join([f"{part.name} {why} (its log: {part.log})", *map(spoken, one.tail)]))
