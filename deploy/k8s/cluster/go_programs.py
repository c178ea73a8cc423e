"""Builds programs from their Go modules, once, into the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LEAST_GO: Final = (1, 26)

Tell = Callable[[str], None]


class CannotBuild(Exception):
    """One line that says what is missing or failed."""


@dataclass(frozen=True, slots=True)
class GoPrograms:
    """Programs that are built together, in the versions of their `go.mod` files."""

    name: str
    """The beginning of the name of their folder in the cache."""
    modules: Path
    """The folder that has a folder for each `go.mod`."""
    packages: Mapping[str, tuple[str, str]]
    """Each program, with the folder of its `go.mod`, and its package."""
    duration: str
    """How long it takes to build all of them, as text."""
    flags: str = "-s -w"
    """The flags of the linker."""
    written: tuple[str, ...] = ()
    """Other files in their folder, which `finish` of `built` writes."""

    def missing(self) -> str | None:
        """Why the programs cannot be built here, as one line; None if they can, or if they are there."""
        if all((self.folder() / name).exists() for name in (*self.packages, *self.written)):
            return None
        if shutil.which("go") is None:
            return f"there is no go on the PATH, and the programs of {self.name} are not built yet"
        found = re.match(r"go(\d+)\.(\d+)", run_go(["go", "env", "GOVERSION"], self.modules))
        if found is None or (int(found[1]), int(found[2])) < LEAST_GO:
            return f"go on the PATH is older than {LEAST_GO[0]}.{LEAST_GO[1]}, which {self.name} needs"
        return None

    def folder(self) -> Path:
        """Where the programs of these versions are kept."""
        folders = {self.modules / module for module, _ in self.packages.values()}
        sources = sorted(path for one in folders for pattern in ("go.*", "*.go") for path in one.glob(pattern))
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "segue" / f"{self.name}-{digest.hexdigest()[:12]}"

    def built(self, tell: Tell, finish: Callable[[Path], None] = lambda _: None) -> Path:
        """The folder with every program; `tell` hears of each that is built. Raises CannotBuild.

        `finish` is called with the folder while no other process builds them.
        """
        if (why := self.missing()) is not None:
            raise CannotBuild(why)
        into = self.folder()
        into.mkdir(parents=True, exist_ok=True)
        with (into / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            left = [name for name in self.packages if not (into / name).exists()]
            for number, name in enumerate(left, 1):
                tell(f"building {name}, {number} of {len(left)}; all of them take about {self.duration}")
                self._build(name, into)
            finish(into)
        return into

    def _build(self, name: str, into: Path) -> None:
        module, package = self.packages[name]
        unfinished = into / f"{name}.new"
        build = ["go", "build", "-trimpath", "-ldflags", self.flags, "-o", str(unfinished), package]
        run_go(build, self.modules / module)
        unfinished.rename(into / name)


def run_go(argv: list[str], where: Path) -> str:
    """What a command printed. Raises CannotBuild with its last lines."""
    # The versions and their hashes are those of go.mod and go.sum.
    environ = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
    done = subprocess.run(argv, cwd=where, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-3:]
        raise CannotBuild(f"{' '.join(argv[:2])} in {where} ended with {done.returncode}: {' | '.join(last)}")
    return done.stdout


def version_of(go_mod: Path, module: str) -> str:
    """The version of a module that a `go.mod` requires, as in v1.36.3."""
    [found] = re.findall(rf"^(?:require|\t) ?{re.escape(module)} (v\S+)", go_mod.read_text(), re.MULTILINE)
    return str(found)


def kubernetes_flags(go_mod: Path) -> str:
    """The linker's flags by which programs of Kubernetes know their version."""
    version = version_of(go_mod, "k8s.io/kubernetes")
    _, major, minor, _ = re.split(r"[v.]", version)
    base = "-X k8s.io/component-base/version.git"
    return f"-s -w {base}Version={version} {base}Major={major} {base}Minor={minor}"
