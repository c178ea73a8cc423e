"""The processes of a running Segue, and the command that restarts each by hand."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from chassis.runtime.private_files import private_opener
from contracts.text import escaped
from segue_cli.local.process import LineSink


class Process(Protocol):
    """A child process that can be waited for."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    async def wait(self) -> int:
        """Wait for its end and return its exit code."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """One running process."""

    name: str
    process: Process
    pid: int
    address: str
    log: Path
    again: str
    """The command line that restarts it in the same place, once it has died."""


class StackFailed(Exception):
    """Segue did not start: the first line says which part failed and why, the others are its last output."""

    def __init__(self, why: str, code: int = 1) -> None:
        super().__init__(why)
        self.code = code
        """The exit code of the command."""


def module_of(service: str) -> str:
    """The Python module of a service."""
    return service.replace("-", "_")


def service_again(service: str, port: int, env_file: Path) -> str:
    """The command with which a user restarts a service of a running `segue up`."""
    command = [*_segue(), "run", service, "--port", str(port), "--env-file", from_here(env_file)]
    return shlex.join(command)


def log_to(path: Path) -> tuple[LineSink, Callable[[], None]]:
    """A sink that appends lines to a file of the owner's alone without buffering, and a function that closes it.

    Lines that cannot be written, as on a full disk, are left out. That is said once on stderr, and in the file how many
    are missing, as soon as it can be written again.
    """
    log = _Log(path)
    return log.take, log.close


class _Log:
    """A log file that never fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Unbuffered: a buffer keeps what could not be written, and raises again when the file is closed.
        self._file = open(path, "ab", buffering=0, opener=private_opener)  # noqa: SIM115 - `close` closes it
        self._missing = 0
        self._within_line = False
        self._said = False

    def take(self, line: str) -> None:
        if self._file.closed:
            return
        try:
            if self._missing:
                self._write(f"segue: {self._missing} lines are missing here: they could not be written")
                self._missing = 0
            self._write(line)
        except OSError as error:
            self._missing += 1
            self._say(error)

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()

    def _write(self, line: str) -> None:
        start = "\n" if self._within_line else ""
        rest = memoryview(f"{start}{escaped(line)}\n".encode())
        while rest:
            rest = rest[self._file.write(rest) :]
            self._within_line = bool(rest)

    def _say(self, error: OSError) -> None:
        if self._said:
            return
        self._said = True
        with suppress(OSError):  # The output may be on the same full disk, and the current folder deleted.
            why = f"{from_here(self._path)} cannot be written ({error.strerror}); lines are left out until it can"
            print(f"segue: {why}", file=sys.stderr, flush=True)


def exit_in_words(code: int) -> str:
    """An exit code as text; a signal by its name."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def spoken(line: str) -> str:
    """A log line for users: the message and fields of a JSON line, any other line unchanged."""
    try:
        said: Any = json.loads(line)
    except ValueError:
        return line
    if not isinstance(said, dict) or "event" not in said:
        return line
    skipped = {"event", "level", "timestamp", "logger", "service", "exception"}
    rest = " ".join(f"{name}={value}" for name, value in said.items() if name not in skipped)
    text = f"{said.get('level', 'info')}: {said['event']} {rest}".rstrip()
    return f"{text}\n{said['exception']}" if said.get("exception") else text


def from_here(path: Path) -> str:
    """A path as text: relative to the current folder if it is below it."""
    here = Path.cwd()
    absolute = path.absolute()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def _segue() -> list[str]:
    """How this command was called, as it can be called again from the current folder."""
    called = Path(sys.argv[0])
    if called.name == "segue":
        return [from_here(called)]
    return [from_here(Path(sys.executable)), "-m", "segue_cli"]
