"""Child processes that report when they are ready, are stopped in order, and never outlive their parent."""

import asyncio
import ctypes
import json
import os
import signal
import stat
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

LineSink = Callable[[str], None]
ReadyLine = Callable[[str], Mapping[str, Any] | None]

START_LIMIT_S = 300.0
"""Time limit until a child is ready, in seconds. A child that dies is reported at once, so this ends only one that
hangs.
"""

_PR_SET_PDEATHSIG = 1
_LONGEST_LINE = 1 << 20
_TAIL_LINES = 20
_DRAIN_S = 10.0
"""Time limit for reading a dead child's remaining output, in seconds; only a grandchild with the pipe open reaches it.
"""


class ChildFailed(RuntimeError):
    """A child ended, or exceeded its time limit, before it was ready; the message ends with its last output."""


def ready_with(key: str) -> ReadyLine:
    """The usual `ready=`: the first line that is a JSON object with this key."""

    def parse(line: str) -> Mapping[str, Any] | None:
        if not line.startswith("{"):
            return None
        try:
            found = json.loads(line)
        except ValueError:
            return None
        return found if key in found else None

    return parse


class Child:
    """A running child process, as `child` yields it."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.name = name
        self.ready: Mapping[str, Any] = {}
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until it ends, without a time limit; returns its exit code."""
        return await self._process.wait()

    async def stop(self, sig: signal.Signals = signal.SIGTERM, *, grace_s: float = 10.0) -> int:
        """Send it `sig`, kill it after `grace_s` seconds, and return its exit code; does nothing if it has ended."""
        self._send(sig)
        try:
            return await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self._send(signal.SIGKILL)
            return await self._process.wait()

    def _send(self, sig: signal.Signals) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(sig)


@asynccontextmanager
async def child(
    argv: Sequence[str],
    *,
    name: str,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: int | None = None,
    on_line: LineSink | None = None,
    ready: ReadyLine | None = None,
    ready_within_s: float = START_LIMIT_S,
    grace_s: float = 10.0,
    death_signal: signal.Signals = signal.SIGKILL,
) -> AsyncIterator[Child]:
    """Run `argv` for the length of the block, which begins when `ready` has found its line.

    Raises `ChildFailed` if the child ends before that, or `ready_within_s` seconds pass.

    Both output streams go to `on_line`, line by line. If it raises they are read on, since a child with a full pipe
    stands still, and its first error is raised at the end of the block. The child has its own process group, so Ctrl-C
    reaches only the parent. On Linux the kernel sends it `death_signal` when the thread that started it ends, so start
    it from a long-lived thread; on other systems it may watch its stdin, a pipe that closes when the parent ends.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
        user=user,
        group=user,
        extra_groups=None if user is None else (),
        process_group=0,
        preexec_fn=dies_with_parent(death_signal),
    )
    running = Child(process, name)
    found: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
    raised: list[Exception] = []

    def take(line: str) -> None:
        running.tail.append(line)
        if ready is not None and not found.done() and (parsed := ready(line)) is not None:
            found.set_result(parsed)
        if on_line is not None:
            try:
                on_line(line)
            except Exception as error:  # noqa: BLE001 - whatever it is, the pipe has to be read on
                raised[:] = raised or [error]

    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    readers = [asyncio.create_task(_read(stream, take)) for stream in streams]
    try:
        if ready is not None:
            running.ready = await _first(found, running, ready_within_s, readers)
        yield running
    finally:
        await running.stop(grace_s=grace_s)
        await _drain(readers)
    if raised:
        raise raised[0]


def dies_with_parent(sig: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` by which Linux sends `sig` to the child when its parent dies; None on other systems."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: between fork and exec only plain calls are safe
    parent = os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the call above
            os._exit(1)

    return arm


async def until_told() -> None:
    """Return on SIGTERM, on SIGINT, or when stdin is a pipe and closes: the parent process has ended."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, told.set)
    kind = os.fstat(0).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        loop.add_reader(0, lambda: None if os.read(0, 4096) else told.set())
    await told.wait()


async def _first(
    found: asyncio.Future[Mapping[str, Any]], running: Child, within_s: float, readers: list[asyncio.Task[None]]
) -> Mapping[str, Any]:
    ended = asyncio.create_task(running.wait())
    either: set[asyncio.Future[Any]] = {found, ended}
    try:
        await asyncio.wait(either, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
    if found.done():
        return found.result()
    why = f"was not ready within {within_s:g} s"
    if running.returncode is not None:
        await _drain(readers)
        why = f"ended with {running.returncode} before it was ready"
    raise ChildFailed("\n  ".join([f"{running.name} {why}", *running.tail]))


async def _read(stream: asyncio.StreamReader, take: LineSink) -> None:
    rest = b""
    while chunk := await stream.read(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        for line in lines:
            take(line.decode(errors="replace").rstrip("\r"))
    if rest:
        take(rest.decode(errors="replace"))


async def _drain(readers: list[asyncio.Task[None]]) -> None:
    """Read the remaining output; a grandchild that keeps the pipe open is not waited for."""
    done, late = await asyncio.wait(readers, timeout=_DRAIN_S)
    for task in late:
        task.cancel()
    for task in done:
        task.result()
