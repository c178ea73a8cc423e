"""The `segue` command as its users run it: a process in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pytest
from tests.patience import eventually_sync, patient
from tests.users import let_others_enter

from segue_cli.stack.environment import without_settings

SEGUE = [sys.executable, "-m", "segue_cli"]
FAL_KEY = "0a1b2c3d-key-id:sesame-open-32-characters-long-x"
TOKEN = "r8_" + "t" * 37


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that run commands as processes as end-to-end tests."""
    for item in items:
        if {"shell", "place"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.e2e)


@dataclass
class Shell:
    """A folder to run commands in, without the settings of this machine."""

    folder: Path
    env: dict[str, str] = field(default_factory=lambda: without_settings(os.environ))
    started: list[Command] = field(default_factory=list)

    def run(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: TextIO | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; what it prints to stderr is apart if its `stdout` is given."""
        return subprocess.run(
            [*SEGUE, *words],
            cwd=self.folder,
            env={**self.env, **(env or {})},
            stdin=stdin,
            stdout=stdout or subprocess.PIPE,
            stderr=subprocess.PIPE if stdout else subprocess.STDOUT,
            text=True,
            timeout=patient(120),
            check=False,
        )

    def start(self, *words: str, env: Mapping[str, str] | None = None, stdin: int | None = None) -> Command:
        command = Command.started(words, self.folder, {**self.env, **(env or {})}, stdin)
        self.started.append(command)
        return command

    def left_over(self) -> list[str]:
        """The command lines of all processes that name this folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    line, cwd = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(),
                        (entry / "cwd").readlink(),
                    )
                except OSError:
                    continue
                if str(self.folder) in line or cwd.is_relative_to(self.folder):
                    found.append(line)
        return found


@dataclass
class Command:
    """A running command, with its output."""

    process: subprocess.Popen[str]
    output: Path

    @classmethod
    def started(cls, words: tuple[str, ...], folder: Path, env: Mapping[str, str], stdin: int | None = None) -> Command:
        output = folder / f"{words[0]}.out"
        with output.open("w") as file:
            how: dict[str, Any] = {
                "stdin": stdin,
                "stdout": file,
                "stderr": file,
                "text": True,
                "preexec_fn": restore_sigint,
            }
            process = subprocess.Popen([*SEGUE, *words], cwd=folder, env=env, **how)
        return cls(process, output)

    def printed(self) -> str:
        return self.output.read_text()

    def until(self, words: str, within_s: float = 120) -> str:
        until(lambda: words in self.printed() or self.process.poll() is not None, within_s, self.printed)
        assert words in self.printed()
        return self.printed()

    def interrupt_question(self) -> None:
        """Send SIGINT once the process reads the answer: Python does not see one that comes just before the read."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S", 60, self.printed)
        self.process.send_signal(signal.SIGINT)

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(patient(60))


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., None]:
    return until


def until(check: Callable[[], object], within_s: float, tell: Callable[[], str] = str) -> None:
    eventually_sync(check, within_s, every_s=0.05, tell=tell)


def restore_sigint() -> None:
    """Handle SIGINT, which a shell has processes in the background ignore, and their children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("segue")
    let_others_enter(folder)  # PostgreSQL runs as another user if this one is root.
    shell = Shell(folder.resolve())
    yield shell
    for command in shell.started:
        if command.process.poll() is None:  # The test failed before.
            command.stop(signal.SIGTERM)
    until(lambda: not shell.left_over(), 60, lambda: str(shell.left_over()))


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings for a sandbox in place of the providers."""
    folder = tmp_path_factory.mktemp("sandbox")
    argv = [sys.executable, "-m", "sandbox", "--dir", str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        at = json.loads(process.stdout.readline())
        yield {
            "FAL_KEY": FAL_KEY,
            "REPLICATE_API_TOKEN": TOKEN,
            "FAL_RUN_HOST": at["fal_run_host"],
            "FAL_QUEUE_RUN_HOST": at["fal_host"],
            "FAL_API_URL": at["fal_api_url"],
            "SSL_CERT_FILE": at["ca_file"],
            "REPLICATE_BASE_URL": at["replicate_base_url"],
            "SEGUE_SANDBOX_URL": at["control_url"],
        }
        process.terminate()
