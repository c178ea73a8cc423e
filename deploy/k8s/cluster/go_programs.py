"""Builds programs from their Go modules, once, into the user's cache. The versions and hashes are those of go.mod."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotBuild(Exception):
    """One line that says what is missing or failed."""


def missing_go(least: tuple[int, int], what: str) -> str | None:
    """Why Go of this version cannot build `what`, as one line; None if it can. Raises CannotBuild."""
    if shutil.which("go") is None:
        return f"there is no go on the PATH, and {what} is not built yet"
    found = re.match(r"go(\d+)\.(\d+)", run(["go", "env", "GOVERSION"], Path.cwd()))
    if found is None or (int(found[1]), int(found[2])) < least:
        return f"go on the PATH is older than {least[0]}.{least[1]}, which {what} needs"
    return None


def cache_folder(name: str, modules: Iterable[Path]) -> Path:
    """Where the programs of these versions are kept; `modules` are the files of their modules."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(modules)))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "segue" / f"{name}-{digest.hexdigest()[:12]}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, and keep others from building into it for the length of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(package: str, module: Path, program: Path, flags: str = "-s -w") -> None:
    """Build one program of the module in a folder; it is there completely or not at all. Raises CannotBuild."""
    unfinished = program.with_name(f"{program.name}.new")
    run(["go", "build", "-trimpath", "-ldflags", flags, "-o", str(unfinished), package], module)
    unfinished.rename(program)


def run(argv: list[str], where: Path) -> str:
    """The output of a program; Go neither changes nor leaves the versions of go.mod. Raises CannotBuild."""
    environ = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
    done = subprocess.run(argv, cwd=where, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-3:]
        raise CannotBuild(f"{' '.join(argv[:2])} in {where} ended with {done.returncode}: {' | '.join(last)}")
    return done.stdout
